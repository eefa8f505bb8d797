//! The SQLite broker beside what it is made of: the disk's own syncs, and a lease cycle written by hand.
//!
//! `cargo bench -p abe-events --bench sqlite [folder]`. Rounds alternate; medians and ratios of one run
//! are printed, since absolute figures are the machine's.

#[path = "report.rs"]
#[allow(dead_code, reason = "shared by three benchmarks, of which each uses a part")]
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use abe_events::broker::sqlite::{__rusqlite as rusqlite, SqliteBroker};
use abe_events::broker::{Broker, Messages, Outgoing, Settlement, SubscriptionSpec, Verdict};
use abe_events::{Message, Name, Payload, Topic, TopicPattern};
use rusqlite::{Connection, params};

use self::report::{Report, ratios};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ROUNDS: usize = 5;
const PAYLOAD: &[u8] = &[b'x'; 240];

/// How long each measurement of a round takes.
const TIME: Duration = Duration::from_millis(800);

fn message() -> Result<Message> {
    Ok(Message::new(Topic::new("bench.created")?, 1, Payload::from_bytes(PAYLOAD)))
}

fn outgoing(messages: Vec<Message>) -> Outgoing {
    Outgoing { messages: Messages::Many(messages), delay: Duration::ZERO, origin: None }
}

fn spec() -> Result<SubscriptionSpec> {
    let mut spec = SubscriptionSpec::new(Name::new("bench")?, Name::new("reader")?, vec![TopicPattern::new("bench.created")?]);
    spec.unsettled_max = 100_000;
    Ok(spec)
}

/// Appends and syncs, per second.
fn syncs(folder: &Path) -> Result<f64> {
    let mut file = std::fs::File::create(folder.join("syncs"))?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < TIME {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Awaited publishes per second by so many publishers, and how many shared a commit.
async fn publishes(path: PathBuf, publishers: usize) -> Result<(f64, f64)> {
    let broker = Arc::new(SqliteBroker::builder(path).open()?);
    broker.subscribe(&spec()?).await?;
    let (began, before) = (Instant::now(), broker.commits());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..publishers {
        let broker = broker.clone();
        tasks.spawn(async move {
            let mut count = 0_u32;
            while began.elapsed() < TIME {
                let one = Outgoing { messages: Messages::One(message()?), delay: Duration::ZERO, origin: None };
                broker.publish(one).await.map_err(|failure| failure.to_string())?;
                count += 1;
            }
            Result::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    let rate = f64::from(total) / began.elapsed().as_secs_f64();
    let shared = f64::from(total) / (broker.commits() - before) as f64;
    broker.close().await?;
    Ok((rate, shared))
}

/// Messages per second through publish, receive and settle, so many at a time, on top of a backlog.
async fn cycle(path: PathBuf, batch: usize, backlog: usize) -> Result<f64> {
    let broker = SqliteBroker::builder(path).open()?;
    let consumer = broker.subscribe(&spec()?).await?;
    for _ in 0..backlog / 1_000 {
        let messages = (0..1_000).map(|_| message()).collect::<Result<Vec<_>>>()?;
        broker.publish(outgoing(messages)).await.map_err(|failure| failure.to_string())?;
    }
    let (began, mut count, mut deliveries) = (Instant::now(), 0, Vec::new());
    while began.elapsed() < TIME {
        let messages = (0..batch).map(|_| message()).collect::<Result<Vec<_>>>()?;
        broker.publish(outgoing(messages)).await.map_err(|failure| failure.to_string())?;
        deliveries = consumer.receive(0, batch, deliveries).await?;
        count += deliveries.len();
        let settlements = deliveries.drain(..).map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect();
        let settled = consumer.settle(settlements).await;
        if !settled.lost.is_empty() || !settled.failed.is_empty() {
            return Err(format!("{settled:?}").into());
        }
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    broker.close().await?;
    Ok(rate)
}

/// The same as the lanes of a runtime do it: what was handled is settled while the next is asked for, and published meanwhile.
async fn as_a_lane(path: PathBuf, batch: usize) -> Result<f64> {
    let broker = SqliteBroker::builder(path).open()?;
    let consumer = broker.subscribe(&spec()?).await?;
    let next = || async {
        let messages = (0..batch).map(|_| message()).collect::<Result<Vec<_>>>()?;
        broker.publish(outgoing(messages)).await.map_err(|failure| failure.to_string())?;
        Result::Ok(())
    };
    next().await?;
    let mut deliveries = consumer.receive(0, batch, Vec::new()).await?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < TIME {
        next().await?;
        count += deliveries.len();
        let settlements = deliveries.drain(..).map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect();
        let (settled, received) = tokio::join!(consumer.settle(settlements), consumer.receive(0, batch, Vec::new()));
        if !settled.lost.is_empty() || !settled.failed.is_empty() {
            return Err(format!("{settled:?}").into());
        }
        deliveries = received?;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    broker.close().await?;
    Ok(rate)
}

/// The same by hand: one table, one index, prepared statements, a transaction each for insert, claim and delete.
fn by_hand(path: &Path, batch: usize) -> Result<f64> {
    let mut db = Connection::open(path)?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE job (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
                           state INTEGER NOT NULL DEFAULT 0, token INTEGER, until INTEGER, attempts INTEGER NOT NULL DEFAULT 0);
         CREATE INDEX job_state ON job (state, seq);",
    )?;
    let (began, mut count, mut token) = (Instant::now(), 0, 0_i64);
    while began.elapsed() < TIME {
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = tx.prepare_cached("INSERT INTO job (id, topic, payload) VALUES (?1, ?2, ?3)")?;
            for _ in 0..batch {
                let message = message()?;
                insert.execute(params![message.id().to_string(), message.topic().as_str(), PAYLOAD])?;
            }
        }
        tx.commit()?;
        token += 1;
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let claimed: Vec<(i64, String, String, Vec<u8>)> = {
            let mut claim = tx.prepare_cached(
                "UPDATE job SET state = 1, token = ?1, until = CAST(unixepoch('subsec') * 1000 AS INTEGER) + 30000, attempts = attempts + 1
                 WHERE seq IN (SELECT seq FROM job WHERE state = 0 ORDER BY seq LIMIT ?2) RETURNING seq, id, topic, payload",
            )?;
            claim
                .query_map(params![token, i64::try_from(batch)?], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                .collect::<std::result::Result<_, _>>()?
        };
        tx.commit()?;
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut ack = tx.prepare_cached("DELETE FROM job WHERE seq = ?1 AND token = ?2")?;
            for (seq, ..) in &claimed {
                ack.execute([*seq, token])?;
            }
        }
        tx.commit()?;
        count += claimed.len();
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn main() -> Result {
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = base.join(format!("abe-events-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut next = 0;
    let mut file = || {
        next += 1;
        folder.join(format!("{next}.db"))
    };
    let mut report = Report::new("SQLite, synchronous=FULL");
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); 13];
    for _ in 0..ROUNDS {
        rates[0].push(syncs(&folder)?);
        for (at, publishers) in [(1, 64), (3, 1_024)] {
            let (rate, shared) = runtime.block_on(publishes(file(), publishers))?;
            rates[at].push(rate);
            rates[at + 1].push(shared);
        }
        for (at, batch) in [(5, 50), (8, 500)] {
            rates[at].push(by_hand(&file(), batch)?);
            rates[at + 1].push(runtime.block_on(cycle(file(), batch, 0))?);
            rates[at + 2].push(runtime.block_on(as_a_lane(file(), batch))?);
        }
        rates[11].push(runtime.block_on(cycle(file(), 50, 1_000))?);
        rates[12].push(runtime.block_on(cycle(file(), 50, 100_000))?);
    }
    report.rate("append and fdatasync", "/s", &rates[0]);
    for (at, publishers, budget) in [(1, "64", 10.0), (3, "1,024", 40.0)] {
        report.rate(&format!("awaited publishes, {publishers} publishers"), "/s", &rates[at]);
        report.rate("    publishes that share a commit", "", &rates[at + 1]);
        report.at_least("P7", &format!("SQLite, {publishers} publishers, to the disk's own syncs"), &ratios(&rates[at], &rates[0]), budget);
    }
    for (at, batch) in [(5, 50), (8, 500)] {
        report.rate(&format!("lease cycle by hand, {batch} at a time"), "/s", &rates[at]);
        report.rate("    publish, receive, settle, one after another", "/s", &rates[at + 1]);
        report.rate("    settle and receive at once, as a lane does", "/s", &rates[at + 2]);
        let what = format!("SQLite, full cycle, {batch} at a time, to the cycle by hand");
        // Each call goes to the writer's thread and back, which the loop by hand, on a thread of its own, does not.
        report.compare("P7", &format!("{what}, one call after another, for comparison"), &ratios(&rates[at + 1], &rates[at]));
        report.at_least("P7", &format!("{what}, as a lane does"), &ratios(&rates[at + 2], &rates[at]), 0.8);
    }
    report.rate("cycle of 50 on a backlog of 1,000", "/s", &rates[11]);
    report.rate("cycle of 50 on a backlog of 100,000", "/s", &rates[12]);
    report.at_most("P7", "SQLite, time of a cycle with 100,000 waiting to one with 1,000", &ratios(&rates[11], &rates[12]), 1.5);
    report.end();
    Ok(std::fs::remove_dir_all(&folder)?)
}
