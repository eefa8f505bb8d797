//! From publish to the handler's end at half the load that is possible: abe-events beside loops by hand; and what a million
//! messages behind a stalled handler cost in memory.
//!
//! `cargo bench -p abe-events --features sqlite,postgres --bench latency`. The rate of a row is half of what the slower of the
//! two reached just before in the same run, and both get it, in alternating rounds.

#[path = "report.rs"]
#[allow(dead_code, reason = "shared by three benchmarks, of which each uses a part")]
mod report;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use abe_events::broker::sqlite::__rusqlite as rusqlite;
use abe_events::config::Config;
use abe_events::{Runtime, event, handlers, subscribe};
use rusqlite::{Connection, params};

use self::report::{Report, ratios, say, sorted};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ROUNDS: usize = 3;

/// How long each measurement of a round takes.
const TIME: Duration = Duration::from_millis(1_500);

/// How many are published at once at most, by a producer that is late.
const AT_ONCE_MAX: usize = 64;

/// As fast as it goes.
const ALL_OUT: f64 = 1e8;

/// How many messages wait behind a stalled handler, if the broker takes them.
const BACKLOG: u32 = 1_000_000;

#[event(topic = "bench.timed")]
struct Timed {
    published_ns: u64,
    text: String,
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
static LATENCIES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn now_ns() -> u64 {
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Timed {
    fn now() -> Self {
        Self { published_ns: now_ns(), text: "x".repeat(200) }
    }

    fn arrived(&self) {
        std::hint::black_box(&self.text);
        LATENCIES.lock().unwrap_or_else(PoisonError::into_inner).push(now_ns() - self.published_ns);
    }
}

#[subscribe]
async fn timed(event: &Timed) {
    event.arrived();
}

/// Of what has arrived since the last look, without the first tenth: the 99th percentile in microseconds; and how many
/// arrived per second.
struct Arrived {
    p99: f64,
    per_second: f64,
}

fn arrived(since: Instant) -> Arrived {
    let time = since.elapsed();
    let all = std::mem::take(&mut *LATENCIES.lock().unwrap_or_else(PoisonError::into_inner));
    let settled: Vec<f64> = all[all.len() / 10..].iter().map(|ns| *ns as f64 / 1_000.0).collect();
    let p99 = sorted(&settled).get(settled.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    Arrived { p99, per_second: all.len() as f64 / time.as_secs_f64() }
}

/// Calls `publish` at a steady rate; what is late is made up for at once, as a producer with a schedule would.
async fn steadily<F: Future<Output = Result>>(per_second: f64, mut publish: impl FnMut(usize) -> F) -> Result {
    let (began, mut sent) = (Instant::now(), 0_usize);
    while began.elapsed() < TIME {
        let due = (began.elapsed().as_secs_f64() * per_second) as usize;
        let count = (due - sent).min(AT_ONCE_MAX);
        if count > 0 {
            publish(count).await?;
            sent += count;
        }
        if sent == due {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

/// A runtime that gets so many messages per second, all that fell due within a millisecond together.
async fn ours(url: &str, per_second: f64) -> Result<Arrived> {
    let runtime = Runtime::builder().config(Config::default()).url(url).handlers(handlers![timed]).start().await?;
    let began = Instant::now();
    steadily(per_second, |count| {
        let runtime = runtime.clone();
        async move {
            runtime.publish_all((0..count).map(|_| Timed::now())).await?;
            Ok(())
        }
    })
    .await?;
    runtime.settled().await;
    let arrived = arrived(began);
    runtime.stop().await;
    Ok(arrived)
}

/// tokio's mpsc of 64, a loop and a function.
async fn memory_by_hand(per_second: f64) -> Result<Arrived> {
    let began = Instant::now();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Timed>(64);
    let consuming = tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            event.arrived();
        }
    });
    steadily(per_second, |count| {
        let sender = sender.clone();
        async move {
            for _ in 0..count {
                sender.send(Timed::now()).await?;
            }
            Ok(())
        }
    })
    .await?;
    drop(sender);
    consuming.await?;
    Ok(arrived(began))
}

const TABLE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;
    CREATE TABLE IF NOT EXISTS job (seq INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB NOT NULL,
        state INTEGER NOT NULL DEFAULT 0, token INTEGER, attempts INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS job_state ON job (state, seq);";

/// One thread that owns the file, inserts what came, claims, handles and deletes: three commits a turn.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, on which nothing asynchronous runs")]
fn sqlite_by_hand(path: PathBuf, per_second: f64) -> Result<Arrived> {
    let mut db = Connection::open(path)?;
    db.execute_batch(TABLE)?;
    let (began, mut sent, mut token) = (Instant::now(), 0_usize, 0_i64);
    while began.elapsed() < TIME {
        let due = ((began.elapsed().as_secs_f64() * per_second) as usize).min(sent + AT_ONCE_MAX);
        if due == sent {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let came: Vec<Timed> = (sent..due).map(|_| Timed::now()).collect();
        sent = due;
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for event in &came {
            tx.prepare_cached("INSERT INTO job (payload) VALUES (?1)")?.execute([serde_json::to_vec(event)?])?;
        }
        tx.commit()?;
        token += 1;
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let sql = "UPDATE job SET state = 1, token = ?1, attempts = attempts + 1
                   WHERE seq IN (SELECT seq FROM job WHERE state = 0 ORDER BY seq LIMIT 64) RETURNING seq, payload";
        let claimed: Vec<(i64, Vec<u8>)> =
            tx.prepare_cached(sql)?.query_map([token], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<std::result::Result<_, _>>()?;
        tx.commit()?;
        for (_, payload) in &claimed {
            serde_json::from_slice::<Timed>(payload)?.arrived();
        }
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (seq, _) in &claimed {
            tx.prepare_cached("DELETE FROM job WHERE seq = ?1 AND token = ?2")?.execute(params![seq, token])?;
        }
        tx.commit()?;
    }
    Ok(arrived(began))
}

#[cfg(feature = "postgres")]
mod postgres {
    use abe_events::broker::postgres::__sqlx as sqlx;
    use sqlx::Row;

    use super::*;

    const TABLE: &str = "CREATE TABLE IF NOT EXISTS job (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL,
        until timestamptz NOT NULL DEFAULT '-infinity', token bigint, attempts integer NOT NULL DEFAULT 0)";

    /// A publisher, and a worker that is told in the process that there is something; each with a connection of its own.
    async fn by_hand(pool: &sqlx::PgPool, per_second: f64) -> Result<Arrived> {
        sqlx::query("TRUNCATE job").execute(pool).await?;
        let began = Instant::now();
        let (more, worker) = (std::sync::Arc::new(tokio::sync::Notify::new()), pool.clone());
        let told = more.clone();
        let working = tokio::spawn(async move {
            for token in 0_i64.. {
                let rows = sqlx::query(
                    "WITH free AS MATERIALIZED (SELECT seq FROM job WHERE until <= clock_timestamp() ORDER BY seq LIMIT 64 FOR UPDATE SKIP LOCKED)
                     UPDATE job SET until = clock_timestamp() + interval '30 seconds', token = $1, attempts = attempts + 1
                     FROM free WHERE job.seq = free.seq RETURNING job.seq, payload",
                )
                .bind(token)
                .fetch_all(&worker)
                .await?;
                if rows.is_empty() {
                    told.notified().await;
                    continue;
                }
                let mut seqs = Vec::with_capacity(rows.len());
                for row in &rows {
                    serde_json::from_slice::<Timed>(row.try_get(1)?)?.arrived();
                    seqs.push(row.try_get::<i64, _>(0)?);
                }
                sqlx::query("DELETE FROM job WHERE seq = ANY($1) AND token = $2").bind(seqs).bind(token).execute(&worker).await?;
            }
            Result::Ok(())
        });
        steadily(per_second, |count| {
            let (pool, more) = (pool.clone(), more.clone());
            async move {
                let payloads = (0..count).map(|_| serde_json::to_vec(&Timed::now())).collect::<std::result::Result<Vec<_>, _>>()?;
                sqlx::query("INSERT INTO job (payload) SELECT * FROM unnest($1::bytea[])").bind(payloads).execute(&pool).await?;
                more.notify_one();
                Ok(())
            }
        })
        .await?;
        working.abort();
        Ok(arrived(began))
    }

    pub(super) async fn compare(server: &server::Server) -> Result<Pair> {
        let url = server.database("latency");
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(4).test_before_acquire(false).connect(&url).await?;
        sqlx::query(TABLE).execute(&pool).await?;
        let mut pair = Pair::at_half_of(&by_hand(&pool, ALL_OUT).await?, &ours(&format!("{url}?schema=all_out"), ALL_OUT).await?);
        for round in 0..ROUNDS {
            pair.by_hand.push(by_hand(&pool, pair.per_second).await?.p99);
            pair.ours.push(ours(&format!("{url}?schema=round_{round}"), pair.per_second).await?.p99);
        }
        Ok(pair)
    }
}

/// What a row's two contestants had, round by round.
#[derive(Default)]
struct Pair {
    per_second: f64,
    by_hand: Vec<f64>,
    ours: Vec<f64>,
}

impl Pair {
    /// The rate for both, by what each can do.
    fn at_half_of(by_hand: &Arrived, ours: &Arrived) -> Self {
        Self { per_second: by_hand.per_second.min(ours.per_second) / 2.0, ..Self::default() }
    }

    fn show(&self, report: &mut Report, broker: &str) {
        report.rate(&format!("p99, {broker}, {:.0} msg/s, by hand", self.per_second), "us", &self.by_hand);
        report.rate(&format!("p99, {broker}, {:.0} msg/s, abe-events", self.per_second), "us", &self.ours);
        report.at_most("P11", &format!("{broker}, p99 publish to handled at half load"), &ratios(&self.ours, &self.by_hand), 1.5);
    }
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

static STARTED: AtomicU64 = AtomicU64::new(0);

#[subscribe(timeout = "none", concurrency = 4)]
async fn stalled(event: &Timed) {
    std::hint::black_box(event);
    STARTED.fetch_add(1, Ordering::Relaxed);
    std::future::pending::<()>().await;
}

/// MiB by which the process grew with a million messages on their way to a handler that does not end, and how many were accepted.
async fn behind_a_stall(url: &str) -> Result<(f64, u64)> {
    let mut config = Config::default();
    config.shutdown_grace = Duration::from_millis(50);
    let runtime = Runtime::builder().config(config).url(url).handlers(handlers![stalled]).start().await?;
    let before = resident_bytes();
    let publisher = runtime.clone();
    let mut publishing = tokio::spawn(async move {
        for _ in 0..BACKLOG / 1_000 {
            publisher.publish_all((0..1_000).map(|_| Timed::now())).await?;
        }
        abe_events::Result::<()>::Ok(())
    });
    let (mut most, mut accepted, mut still) = (0, 0, 0);
    // Where the broker takes no more, publishing stands still; where it does, it comes to its end.
    while still < 40 && !publishing.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(resident_bytes());
        let now = runtime.monitor().total().accepted;
        still = if now == accepted { still + 1 } else { 0 };
        accepted = now;
    }
    if publishing.is_finished() {
        (&mut publishing).await??;
    }
    most = most.max(resident_bytes());
    accepted = runtime.monitor().total().accepted;
    publishing.abort();
    runtime.stop().await;
    Ok((most.saturating_sub(before) as f64 / f64::from(1 << 20), accepted))
}

fn main() -> Result {
    let folder = std::env::temp_dir().join(format!("abe-events-latency-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sqlite = |name: String| format!("sqlite://{}", folder.join(name).display());
    let mut report = Report::new("latency and bounds");
    let mut memory = Pair::at_half_of(&tokio.block_on(memory_by_hand(ALL_OUT))?, &tokio.block_on(ours("memory://", ALL_OUT))?);
    let by_hand = sqlite_by_hand(folder.join("hand.db"), ALL_OUT)?;
    let mut file = Pair::at_half_of(&by_hand, &tokio.block_on(ours(&sqlite("ours.db".to_owned()), ALL_OUT))?);
    for round in 0..ROUNDS {
        memory.by_hand.push(tokio.block_on(memory_by_hand(memory.per_second))?.p99);
        memory.ours.push(tokio.block_on(ours("memory://", memory.per_second))?.p99);
        file.by_hand.push(sqlite_by_hand(folder.join(format!("hand-{round}.db")), file.per_second)?.p99);
        file.ours.push(tokio.block_on(ours(&sqlite(format!("ours-{round}.db")), file.per_second))?.p99);
    }
    memory.show(&mut report, "memory");
    file.show(&mut report, "SQLite");
    #[cfg(feature = "postgres")]
    let server = server::Server::shared();
    #[cfg(feature = "postgres")]
    if let Some(server) = server {
        tokio.block_on(postgres::compare(server))?.show(&mut report, "PostgreSQL");
    }
    let mut urls = vec![("memory", "memory://".to_owned()), ("SQLite", sqlite("stalled.db".to_owned()))];
    #[cfg(feature = "postgres")]
    urls.extend(server.map(|server| ("PostgreSQL", server.database("stalled"))));
    for (broker, url) in urls {
        let (grown, accepted) = tokio.block_on(behind_a_stall(&url))?;
        say(format_args!("  {broker}: {accepted} of {BACKLOG} messages accepted behind 4 stalled handlers"));
        report.at_most("P10", &format!("{broker}, growth in MiB with a million messages behind a stall"), &[grown], 64.0);
    }
    report.end();
    Ok(std::fs::remove_dir_all(&folder)?)
}
