//! Processes that die, or are stopped for longer than their leases, anywhere in a transaction or in the relay: what was
//! wished, what was done for it and what followed from it are there together and once, or not at all.
//!
//! This binary starts itself as workers. `ABE_KILLS` sets how many of them are killed at random (12). The steps at which
//! one dies on purpose are compiled into builds with `ABE_EVENTS_MUTANTS=1` only.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use abe_events::sqlx::{self, AssertSqlSafe};
use abe_events::{Batch, Context, Result, Runtime, Tx, handlers, subscribe};

use super::common::{number, rows, write};
use super::place::{Db, Place};
use crate::support::{Booked, Paid, builder};

const LEASE: Duration = Duration::from_millis(700);

/// Dies here, if that was asked for.
fn pass(step: &str) {
    if std::env::var("ABE_EVENTS_DIE_AT").as_deref() == Ok(step) {
        std::process::abort();
    }
}

#[subscribe(name = "kill_pay", concurrency = 2, retry(attempts = 1000, min = "1ms", max = "20ms"))]
async fn pay(paid: &Paid, mut tx: Tx<Db>, ctx: &Context) -> Result<Booked> {
    pass("before-effect");
    write(&mut tx, paid.number, "paid").await?;
    pass("after-effect");
    let (number, account) = (paid.number, paid.account);
    tx.publish(Booked { number, account }).await?;
    ctx.publish(Booked { number, account }).await?;
    pass("after-publish");
    Ok(Booked { number, account })
}

#[subscribe(name = "kill_book", batch = 8, max_wait = "20ms", retry(attempts = 1000, min = "1ms", max = "20ms"))]
async fn book(batch: Batch<Booked>, mut tx: Tx<Db>) -> Result<()> {
    for booked in &batch {
        write(&mut tx, booked.number, "booked").await?;
    }
    Ok(())
}

/// Wishes for a payment: the program's own row and the event, in one transaction of its own.
async fn wish(runtime: &Runtime, place: &Place) -> Result<()> {
    let number = fastrand_number();
    let mut tx = Place::begin(&place.pool).await?;
    sqlx::query("INSERT INTO effect (number, note) VALUES ($1, 'wished')").bind(number).execute(&mut *tx).await?;
    runtime.outbox(&mut tx).publish(Paid::new(number)).await?;
    Ok(tx.commit().await?)
}

fn fastrand_number() -> i64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    i64::from(RandomState::new().build_hasher().finish() as u32)
}

/// A worker, when the supervisor started this binary as one: ends when it is killed, or, if it is told to, when all is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker() {
    let (Ok(url), Ok(broker)) = (std::env::var("ABE_STORE_URL"), std::env::var("ABE_STORE_BROKER")) else { return };
    let place = Place::at(url.trim_start_matches("sqlite://")).await;
    let builder = builder().url(broker).store(&url).lease(LEASE).handlers(handlers![pay, book]);
    let runtime = builder.start().await.unwrap();
    let wishes: u32 = std::env::var("ABE_STORE_WISHES").unwrap().parse().unwrap();
    for _ in 0..wishes {
        // Another process may keep the file for long.
        if wish(&runtime, &place).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut quiet = 0;
    while quiet < 30 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        quiet = if runtime.monitor().total().pending == 0 && rows(&place, "outbox").await == 0 { quiet + 1 } else { 0 };
    }
    runtime.stop().await;
}

/// One test's processes and what they share.
struct Bench {
    place: Place,
    broker: String,
    folder: PathBuf,
}

impl Bench {
    /// With the broker in the store's database, or in a file of its own.
    async fn new(name: &str, together: bool) -> Option<Self> {
        let place = Place::new().await?;
        let folder = std::env::temp_dir().join(format!("abe-events-kills-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let broker = if together { place.url.clone() } else { format!("sqlite://{}", folder.join("broker.db").display()) };
        Some(Self { place, broker, folder })
    }

    fn start(&self, wishes: u32, die_at: &str) -> Child {
        let worker = concat!(module_path!(), "::worker");
        let worker = worker.split_once("::").unwrap().1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", worker, "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("ABE_STORE_URL", &self.place.url).env("ABE_STORE_BROKER", &self.broker);
        command.env("ABE_STORE_WISHES", wishes.to_string()).env("ABE_EVENTS_DIE_AT", die_at);
        command.env_remove("ABE_EVENTS_MUTANT").envs(std::env::var("ABE_EVENTS_MUTANT").map(|name| ("ABE_EVENTS_MUTANT", name)));
        command.spawn().unwrap()
    }

    /// Whether it ended by itself, within two minutes.
    async fn ended(&self, child: &mut Child) -> Option<std::process::ExitStatus> {
        for _ in 0..2_400 {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// Lets one worker do all that is left.
    async fn drain(&self) {
        let mut last = self.start(0, "");
        let ended = self.ended(&mut last).await;
        assert!(ended.is_some_and(|status| status.success()), "the last worker did not end well: {ended:?}");
    }

    /// How often each wish was wished, paid and booked.
    async fn counts(&self) -> Vec<(i64, i64, i64, i64)> {
        let each = "SELECT number, count(*) FILTER (WHERE note = 'wished'), count(*) FILTER (WHERE note = 'paid'), \
                    count(*) FILTER (WHERE note = 'booked') FROM effect GROUP BY number";
        sqlx::query_as(AssertSqlSafe(each)).fetch_all(&self.place.pool).await.unwrap()
    }

    /// Every effect has its record, and every record its effect, at any moment.
    async fn effects_are_recorded(&self, when: &str) {
        let done = number(&self.place, "SELECT count(*) FROM effect WHERE note <> 'wished'").await;
        assert_eq!(done, rows(&self.place, "inbox").await, "{when}");
    }

    async fn all_is_done_once(&self, when: &str) {
        self.drain().await;
        self.effects_are_recorded(when).await;
        let counts = self.counts().await;
        assert!(!counts.is_empty(), "{when}: nothing was wished");
        let wrong: Vec<_> = counts.iter().filter(|(_, wished, paid, booked)| (*wished, *paid, *booked) != (1, 1, 3)).collect();
        assert!(wrong.is_empty(), "{when}: {} of {} wishes, as (number, wished, paid, booked): {wrong:?}", wrong.len(), counts.len());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_random_kills_and_stops_every_wish_is_granted_once() {
    let Some(bench) = Bench::new("random", true).await else { return };
    let kills: u32 = std::env::var("ABE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let mut workers = [bench.start(1_000_000, ""), bench.start(1_000_000, "")];
    for round in 0..kills {
        let pause = Duration::from_millis(150 + u64::from(fastrand_number() as u32 % 600));
        tokio::time::sleep(pause).await;
        let worker = &mut workers[round as usize % 2];
        if round % 4 == 3 {
            // A zombie: its leases and its relay's are over when it goes on.
            signal(worker, "STOP");
            tokio::time::sleep(LEASE * 2).await;
            signal(worker, "CONT");
            continue;
        }
        let ended = worker.try_wait().unwrap();
        assert!(ended.is_none(), "a worker ended by itself: {ended:?}");
        worker.kill().unwrap();
        worker.wait().unwrap();
        *worker = bench.start(1_000_000, "");
    }
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    bench.all_is_done_once("at the end").await;
}

/// Kills a worker at a step, looks, and lets another finish.
#[cfg(abe_mutants)]
async fn die_at(step: &str) {
    use std::os::unix::process::ExitStatusExt;
    let Some(bench) = Bench::new(step, false).await else { return };
    let mut worker = bench.start(3, step);
    let ended = bench.ended(&mut worker).await;
    assert!(ended.is_some_and(|status| status.signal().is_some()), "nobody died at {step}: {ended:?}");
    bench.effects_are_recorded(step).await;
    bench.all_is_done_once(step).await;
}

#[cfg(abe_mutants)]
macro_rules! steps {
    ($($name:ident: $step:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            die_at($step).await;
        }
    )*};
}

#[cfg(abe_mutants)]
steps! {
    death_after_begin: "begun";
    death_after_the_record: "recorded";
    death_before_the_effect: "before-effect";
    death_after_the_effect: "after-effect";
    death_after_an_event_of_the_handler: "after-publish";
    death_after_the_outbox: "published";
    death_before_the_commit: "committing";
    death_between_commit_and_ack: "committed";
    death_between_commit_and_ack_later: "committed:4";
    death_before_the_relay_publishes: "relay-read";
    death_before_the_relay_publishes_later: "relay-read:3";
    death_between_publishing_and_removing: "relay-published";
    death_between_publishing_and_removing_later: "relay-published:3";
    death_after_removing: "relay-settled";
}
