//! Two processes that relay from one outbox: the first is stopped in the middle of its lane, the second takes over, and the
//! first wakes up with a batch in its hands that is no longer its own.
//!
//! This binary starts itself as the two; each halts before one of its publishes until a file says that it may go on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use abe_events::broker::sqlite::SqliteBroker;
use abe_events::broker::{Answer, Broker, Capabilities, Consumer, DeadLetters, Outgoing, PublishFailure, Published, SubscriptionSpec};
use abe_events::sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use abe_events::{Result, handlers, sqlx, subscribe};

use super::common::rows;
use super::place::Place;
use crate::support::{Booked, Notes, Paid, builder, until};

const LEASE: Duration = Duration::from_secs(2);
const EVENTS: i64 = 1_200;

/// How many messages the relay reads and publishes at once.
const BATCH: usize = 256;

/// A broker that halts before one of its publishes.
#[derive(Debug)]
struct Halting {
    inner: SqliteBroker,
    folder: PathBuf,
    name: String,
    /// Which publish it is, from one.
    at: u32,
    publishes: AtomicU32,
}

impl Broker for Halting {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        self.inner.subscribe(spec)
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        if self.publishes.fetch_add(1, Ordering::SeqCst) + 1 != self.at {
            return self.inner.publish(outgoing);
        }
        Answer::later(async move {
            std::fs::write(self.folder.join(format!("{}-halts", self.name)), "").unwrap();
            while !self.folder.join(format!("{}-goes-on", self.name)).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.inner.publish(outgoing).await
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

#[subscribe(name = "of_two_relays", ordered)]
async fn of_two_relays(paid: &Paid, notes: &Notes) {
    notes.add(paid.number);
}

/// A runtime has a handler; this one is given nothing.
#[subscribe(name = "idle_relayer")]
async fn idle(_booked: &Booked) {}

/// One of the two, when the test started this binary as such: ends when it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relayer() {
    let (Ok(url), Ok(folder)) = (std::env::var("ABE_RELAY_STORE"), std::env::var("ABE_RELAY_FOLDER")) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let place = Place::at(url.trim_start_matches("sqlite://")).await;
    let inner = SqliteBroker::builder(Path::new(&folder).join("broker.db")).open().unwrap();
    let (name, at) = (std::env::var("ABE_RELAY_NAME").unwrap(), number("ABE_RELAY_HALTS_AT"));
    let broker = Halting { inner, folder: folder.into(), name, at, publishes: AtomicU32::new(0) };
    let runtime = builder().broker(Arc::new(broker)).store(&url).lease(LEASE).handlers(handlers![idle]).start().await.unwrap();
    let mut tx = Place::begin(&place.pool).await.unwrap();
    runtime.outbox(&mut tx).publish_all((0..i64::from(number("ABE_RELAY_EVENTS"))).map(Paid::new)).await.unwrap();
    tx.commit().await.unwrap();
    std::future::pending::<()>().await;
}

/// A process that is killed at the end.
struct Process(Child);

impl Process {
    fn start(place: &Place, folder: &Path, name: &str, halts_at: u32, events: i64) -> Self {
        let relayer = concat!(module_path!(), "::relayer").split_once("::").unwrap().1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", relayer, "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("ABE_RELAY_STORE", &place.url).env("ABE_RELAY_FOLDER", folder).env("ABE_RELAY_NAME", name);
        command.env("ABE_RELAY_HALTS_AT", halts_at.to_string()).env("ABE_RELAY_EVENTS", events.to_string());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "{name} was not sent");
    }

    /// Stops it, but not while it writes to a file and keeps everybody else from writing.
    async fn stop(&self, place: &Place, file: &SqlitePool) {
        self.signal("STOP");
        while !writes(place, file).await {
            self.signal("CONT");
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.signal("STOP");
        }
    }
}

/// Whether both the store and the broker's file can be written to soon: long before anybody gives up who waits for it.
async fn writes(place: &Place, file: &SqlitePool) -> bool {
    let writing = async {
        Place::begin(&place.pool).await?.rollback().await?;
        file.begin_with("BEGIN IMMEDIATE").await?.rollback().await
    };
    tokio::time::timeout(Duration::from_millis(200), writing).await.is_ok_and(|written: sqlx::Result<()>| written.is_ok())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What came, as numbers.
fn came(notes: &Notes) -> Vec<i64> {
    notes.all().iter().map(|note| note.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_stopped_in_the_middle_removes_nothing_and_turns_nothing_around() {
    let Some(place) = Place::new().await else { return };
    let kind = module_path!().rsplit("::").nth(1).unwrap();
    let folder = Folder(std::env::temp_dir().join(format!("abe-events-relays-{}-{kind}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let halts = |name: &str| folder.0.join(format!("{name}-halts"));
    let goes_on = |name: &str| std::fs::write(folder.0.join(format!("{name}-goes-on")), "").unwrap();
    let notes = Notes::default();
    let file = folder.0.join("broker.db");
    let broker = format!("sqlite://{}", file.display());
    let consumer = builder().url(broker).handlers(handlers![of_two_relays]).state(notes.clone()).start().await.unwrap();

    let file = SqlitePool::connect_lazy_with(SqliteConnectOptions::new().filename(file));

    let first = Process::start(&place, &folder.0, "first", 2, EVENTS);
    until("the first halts in its second batch", async || halts("first").exists() && notes.len() == BATCH).await;
    first.stop(&place, &file).await;
    let left = rows(&place, "outbox").await;
    assert_eq!(left, EVENTS - BATCH as i64, "the first batch was removed");
    let second = Process::start(&place, &folder.0, "second", 1, 0);
    until("the second takes over", async || halts("second").exists()).await;

    // Both have the same batch in their hands, and the lane is the second's.
    goes_on("first");
    first.signal("CONT");
    until("the first publishes what it had read", async || notes.len() >= 2 * BATCH).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((rows(&place, "outbox").await, notes.len()), (left, 2 * BATCH), "the first did more than that");
    goes_on("second");
    until("the second does the rest", async || rows(&place, "outbox").await == 0).await;
    until("all of it comes", async || notes.len() == EVENTS as usize + BATCH).await;
    drop((first, second));
    consumer.stop().await;

    let came = came(&notes);
    let mut firsts: Vec<i64> = Vec::new();
    for number in &came {
        if !firsts.contains(number) {
            firsts.push(*number);
        }
    }
    assert_eq!(firsts.len(), EVENTS as usize, "nothing is lost");
    assert_eq!(came.len() - firsts.len(), BATCH, "only what the first had read came twice");
    for account in 0..4 {
        assert!(firsts.iter().filter(|number| *number % 4 == account).is_sorted(), "of account {account}");
    }
}
