//! The PostgreSQL broker beside the same done by hand: a lease cycle in batches, on the same server in the same run.
//!
//! `cargo bench -p abe-events --features postgres --bench postgres`. It starts a server of its own. Rounds alternate; medians
//! and ratios of one run are printed, since absolute figures are the machine's. `bloat` as an argument measures the tables instead.

#[path = "report.rs"]
#[allow(dead_code, reason = "shared by three benchmarks, of which each uses a part")]
mod report;
#[path = "../support/postgres.rs"]
mod server;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use abe_events::broker::postgres::{__sqlx as sqlx, PostgresBroker};
use abe_events::broker::{Broker, Consumer, Messages, Outgoing, Settlement, SubscriptionSpec, Verdict};
use abe_events::config::Config;
use abe_events::policy::PolicyPatch;
use abe_events::{Message, Name, Payload, Runtime, Topic, TopicPattern, event, handlers, subscribe};
use sqlx::Row;

use self::report::{Report, ratios};
use self::server::Server;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ROUNDS: usize = 5;
const PAYLOAD: &[u8] = &[b'x'; 240];

/// How long each measurement of a round takes.
const TIME: Duration = Duration::from_millis(1_200);

fn message() -> Result<Message> {
    Ok(Message::new(Topic::new("bench.created")?, 1, Payload::from_bytes(PAYLOAD)))
}

fn messages(count: usize) -> Result<Outgoing> {
    let messages = (0..count).map(|_| message()).collect::<Result<Vec<_>>>()?;
    Ok(Outgoing { messages: Messages::Many(messages), delay: Duration::ZERO, origin: None })
}

fn spec(lanes: u32) -> Result<SubscriptionSpec> {
    let mut spec = SubscriptionSpec::new(Name::new("bench")?, Name::new("reader")?, vec![TopicPattern::new("bench.created")?]);
    (spec.unsettled_max, spec.lanes) = (100_000, lanes);
    Ok(spec)
}

fn acks(deliveries: Vec<abe_events::broker::Delivery>) -> Vec<Settlement> {
    deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()
}

/// Messages per second through publish, receive and settle, so many at a time.
async fn cycle(url: &str, batch: usize) -> Result<f64> {
    let broker = PostgresBroker::builder(url)?.open().await?;
    let consumer = broker.subscribe(&spec(1)?).await?;
    let (mut began, mut count, mut warm) = (Instant::now(), 0, 0);
    while warm <= 20 || began.elapsed() < TIME {
        if warm == 20 {
            (began, count) = (Instant::now(), 0);
        }
        warm += 1;
        broker.publish(messages(batch)?).await.map_err(|failure| failure.to_string())?;
        let deliveries = consumer.receive(0, batch, Vec::new()).await?;
        count += deliveries.len();
        let settled = consumer.settle(acks(deliveries)).await;
        if !settled.lost.is_empty() || !settled.failed.is_empty() {
            return Err(format!("{settled:?}").into());
        }
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    broker.close().await?;
    Ok(rate)
}

const JOBS: &str = "CREATE TABLE IF NOT EXISTS job (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL, topic text NOT NULL, version bigint NOT NULL, time_ms bigint NOT NULL,
    key bytea, attributes text, payload bytea NOT NULL, until timestamptz NOT NULL DEFAULT '-infinity', token bigint,
    attempts integer NOT NULL DEFAULT 0)";
const INSERT: &str = "INSERT INTO job (id, topic, version, time_ms, key, attributes, payload)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[], $6::text[], $7::bytea[])";
const CLAIM: &str = "WITH free AS MATERIALIZED (
        SELECT seq FROM job WHERE until <= clock_timestamp() ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED)
    UPDATE job SET until = clock_timestamp() + interval '30 seconds', token = $2, attempts = attempts + 1
    FROM free WHERE job.seq = free.seq
    RETURNING job.seq, attempts, id, topic, version, time_ms, key, attributes, payload";
const DELETE: &str = "DELETE FROM job USING unnest($1::bigint[]) AS u (seq) WHERE job.seq = u.seq AND job.token = $2 RETURNING job.seq";

/// The same by hand: one table, prepared statements, a commit each for insert, claim and delete, all in batches.
async fn by_hand(pool: &sqlx::PgPool, batch: usize) -> Result<f64> {
    let (mut began, mut count, mut token, mut warm) = (Instant::now(), 0, 0_i64, 0);
    while warm <= 20 || began.elapsed() < TIME {
        if warm == 20 {
            (began, count) = (Instant::now(), 0);
        }
        warm += 1;
        let some = (0..batch).map(|_| message()).collect::<Result<Vec<_>>>()?;
        let insert = sqlx::query(INSERT)
            .bind(some.iter().map(|message| message.id().to_string()).collect::<Vec<_>>())
            .bind(some.iter().map(|message| message.topic().as_str()).collect::<Vec<_>>())
            .bind(some.iter().map(|message| i64::from(message.version())).collect::<Vec<_>>())
            .bind(some.iter().map(|message| message.time_ms().cast_signed()).collect::<Vec<_>>())
            .bind(vec![None::<Vec<u8>>; batch])
            .bind(vec![None::<String>; batch])
            .bind(vec![PAYLOAD; batch]);
        insert.execute(pool).await?;
        token += 1;
        let rows = sqlx::query(CLAIM).bind(i64::try_from(batch)?).bind(token).fetch_all(pool).await?;
        let mut claimed: Vec<(i64, i32, Message)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let (topic, payload): (&str, &[u8]) = (row.try_get(3)?, row.try_get(8)?);
            let version: i64 = row.try_get(4)?;
            let message = Message::new(Topic::new(topic)?, u32::try_from(version)?, Payload::from_bytes(payload.to_vec()));
            claimed.push((row.try_get(0)?, row.try_get(1)?, message.with_id(row.try_get::<&str, _>(2)?.parse()?)));
        }
        claimed.sort_by_key(|(seq, ..)| *seq);
        let gone = sqlx::query(DELETE).bind(claimed.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>()).bind(token).fetch_all(pool).await?;
        if gone.len() != batch {
            return Err("a lease was lost".into());
        }
        count += claimed.len();
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Awaited publishes per second by so many publishers.
async fn publishes(url: &str, publishers: usize) -> Result<f64> {
    let broker = Arc::new(PostgresBroker::builder(url)?.open().await?);
    broker.subscribe(&spec(1)?).await?;
    let (began, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    for _ in 0..publishers {
        let broker = broker.clone();
        tasks.spawn(async move {
            let mut count = 0_u32;
            while began.elapsed() < TIME {
                broker.publish(messages(1)?).await.map_err(|failure| failure.to_string())?;
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
    broker.close().await?;
    Ok(rate)
}

/// Messages per second through lanes whose handler takes 5 ms and which take one at a time.
async fn workers(url: &str, lanes: u32) -> Result<f64> {
    let broker = PostgresBroker::builder(url)?.open().await?;
    let consumer = broker.subscribe(&spec(lanes)?).await?;
    broker.publish(messages(4_000)?).await.map_err(|failure| failure.to_string())?;
    let (began, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    for lane in 0..lanes {
        let consumer: Arc<dyn Consumer> = consumer.clone();
        tasks.spawn(async move {
            let mut count = 0_u32;
            while began.elapsed() < TIME {
                let deliveries = consumer.receive(lane, 1, Vec::new()).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
                count += u32::try_from(deliveries.len())?;
                consumer.settle(acks(deliveries)).await;
            }
            Result::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    let rate = f64::from(total) / began.elapsed().as_secs_f64();
    broker.close().await?;
    Ok(rate)
}

/// The handler's time in the rows about several workers.
const WORK: Duration = Duration::from_millis(5);

/// How long several workers are measured, once they are under way.
const WORKERS_TIME: Duration = Duration::from_secs(2);

/// By hand: each worker a loop with a connection of its own that claims one, works 5 ms, and deletes it.
async fn workers_by_hand(pool: &sqlx::PgPool, workers: u32) -> Result<f64> {
    sqlx::query("TRUNCATE job").execute(pool).await?;
    let some = (0..4_000).map(|_| message()).collect::<Result<Vec<_>>>()?;
    let insert = sqlx::query(INSERT)
        .bind(some.iter().map(|message| message.id().to_string()).collect::<Vec<_>>())
        .bind(vec!["bench.created"; some.len()])
        .bind(vec![1_i64; some.len()])
        .bind(vec![0_i64; some.len()])
        .bind(vec![None::<Vec<u8>>; some.len()])
        .bind(vec![None::<String>; some.len()])
        .bind(vec![PAYLOAD; some.len()]);
    insert.execute(pool).await?;
    let (done, mut tasks) = (Arc::new(AtomicU32::new(0)), tokio::task::JoinSet::new());
    for worker in 0..workers {
        let (pool, done) = (pool.clone(), done.clone());
        tasks.spawn(async move {
            for round in 0_i64.. {
                let token = round * 1_000 + i64::from(worker);
                let claimed = sqlx::query(CLAIM).bind(1_i64).bind(token).fetch_all(&pool).await?;
                let places = claimed.iter().map(|row| row.try_get::<i64, _>(0)).collect::<std::result::Result<Vec<_>, _>>()?;
                tokio::time::sleep(WORK).await;
                let gone = sqlx::query(DELETE).bind(places).bind(token).fetch_all(&pool).await?;
                done.fetch_add(u32::try_from(gone.len())?, Ordering::Relaxed);
            }
            Result::Ok(())
        });
    }
    Ok(per_second(|| done.load(Ordering::Relaxed)).await)
}

#[event(topic = "bench.worked")]
struct Worked {
    number: u32,
    text: String,
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

#[subscribe]
async fn work(worked: &Worked) {
    tokio::time::sleep(WORK).await;
    std::hint::black_box((worked.number, &worked.text));
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// What a user gets: a runtime with a handler of so much concurrency.
async fn workers_of_a_runtime(url: &str, concurrency: u32) -> Result<f64> {
    let defaults = PolicyPatch { concurrency: Some(concurrency), ..PolicyPatch::NONE };
    let runtime = Runtime::builder().config(Config::default()).url(url).defaults(defaults).handlers(handlers![work]).start().await?;
    runtime.publish_all((0..4_000).map(|number| Worked { number, text: "x".repeat(200) })).await?;
    let rate = per_second(|| HANDLED.load(Ordering::Relaxed)).await;
    runtime.stop().await;
    Ok(rate)
}

/// How much is counted per second, once it is under way.
async fn per_second(count: impl Fn() -> u32) -> f64 {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (began, before) = (Instant::now(), count());
    tokio::time::sleep(WORKERS_TIME).await;
    f64::from(count() - before) / began.elapsed().as_secs_f64()
}

async fn compare(server: &Server) -> Result {
    let mut report = Report::new("PostgreSQL");
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); 14];
    let hand = server.database("hand");
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(8).test_before_acquire(false).connect(&hand).await?;
    sqlx::query(JOBS).execute(&pool).await?;
    let ours = server.database("ours");
    for round in 0..ROUNDS {
        for (at, batch) in [(0, 50), (3, 500)] {
            // Tables without a past for each: what a vacuum has not come to yet slows both down, by chance more the one or the other.
            sqlx::query("TRUNCATE job").execute(&pool).await?;
            rates[at].push(by_hand(&pool, batch).await?);
            rates[at + 1].push(cycle(&format!("{ours}?schema=cycle_{batch}_{round}"), batch).await?);
            rates[at + 2].push(cycle(&format!("{ours}?schema=relaxed_{batch}_{round}&acks=relaxed"), batch).await?);
        }
        rates[6].push(publishes(&format!("{ours}?schema=single"), 1).await?);
        rates[7].push(publishes(&format!("{ours}?schema=many"), 64).await?);
        for (at, lanes) in [(8, 1), (11, 8)] {
            rates[at].push(workers_by_hand(&pool, lanes).await?);
            rates[at + 1].push(workers(&format!("{ours}?schema=lanes_{lanes}_{round}"), lanes).await?);
            rates[at + 2].push(workers_of_a_runtime(&format!("{ours}?schema=runtime_{lanes}_{round}"), lanes).await?);
        }
    }
    for (at, batch) in [(0, 50), (3, 500)] {
        report.rate(&format!("lease cycle by hand, {batch} at a time"), "/s", &rates[at]);
        report.rate(&format!("publish, receive, settle, {batch} at a time"), "/s", &rates[at + 1]);
        report.rate("    the same, acks=relaxed", "/s", &rates[at + 2]);
        let what = format!("PostgreSQL, full cycle, {batch} at a time, to the cycle by hand");
        report.at_least("P8", &what, &ratios(&rates[at + 1], &rates[at]), 0.8);
    }
    report.rate("awaited publishes, 1 publisher", "/s", &rates[6]);
    report.rate("awaited publishes, 64 publishers", "/s", &rates[7]);
    for (at, workers) in [(8, "1 worker"), (11, "8 workers")] {
        report.rate(&format!("handler of 5 ms, {workers}: loops by hand"), "/s", &rates[at]);
        report.rate(&format!("handler of 5 ms, {workers}: the broker, one at a time"), "/s", &rates[at + 1]);
        report.rate(&format!("handler of 5 ms, {workers}: a runtime"), "/s", &rates[at + 2]);
    }
    for (at, name) in [(8, "loops by hand"), (9, "the seam, one message at a time")] {
        let what = format!("PostgreSQL, 8 workers of 5 ms to 1: {name}, for comparison");
        report.compare("P8", &what, &ratios(&rates[at + 3], &rates[at]));
    }
    report.at_least("P8", "PostgreSQL, 8 workers of 5 ms to 1: a runtime, concurrency 8", &ratios(&rates[13], &rates[10]), 7.0);
    report.at_least("P8", "PostgreSQL, 8 workers of 5 ms: a runtime to loops by hand", &ratios(&rates[13], &rates[11]), 0.8);
    report.end();
    Ok(())
}

/// What the tables take when a backlog comes and goes, alone and while an unrelated transaction keeps everything alive.
async fn bloat(server: &Server) -> Result {
    let url = server.database("bloat");
    let broker = PostgresBroker::builder(&url)?.open().await?;
    let consumer = broker.subscribe(&spec(1)?).await?;
    let sizes = || {
        let sql = "SELECT string_agg(relname || ' ' || pg_size_pretty(pg_total_relation_size(oid)), ', ' ORDER BY relname) FROM pg_class \
                   WHERE relnamespace = 'abe_events'::regnamespace AND relname IN ('message', 'delivery')";
        server.sql(&url, sql)
    };
    let mut out = std::io::stdout();
    let mut other = None;
    for round in 0..6 {
        if round == 3 {
            let mut session = server.session(&url);
            session.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM abe_events.message");
            other = Some(session);
        }
        if round == 5 {
            other = None;
            server.sql(&url, "VACUUM abe_events.delivery");
            server.sql(&url, "VACUUM abe_events.message");
        }
        let began = Instant::now();
        for _ in 0..100 {
            broker.publish(messages(1_000)?).await.map_err(|failure| failure.to_string())?;
        }
        let (stored, full) = (began.elapsed(), sizes());
        let (began, mut count, mut slowest) = (Instant::now(), 0, Duration::ZERO);
        while count < 100_000 {
            let asked = Instant::now();
            let deliveries = consumer.receive(0, 500, Vec::new()).await?;
            slowest = slowest.max(asked.elapsed());
            count += deliveries.len();
            consumer.settle(acks(deliveries)).await;
        }
        let drained = began.elapsed();
        let what = if other.is_some() { "an unrelated transaction is open" } else { "alone" };
        writeln!(
            out,
            "{what}: 100,000 stored in {stored:.1?} ({full}), drained in {drained:.1?}, slowest receive {slowest:.1?}; left: {}",
            sizes()
        )?;
    }
    broker.close().await?;
    Ok(())
}

fn main() -> Result {
    let Some(server) = Server::shared() else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if std::env::args().any(|arg| arg == "bloat") { runtime.block_on(bloat(server)) } else { runtime.block_on(compare(server)) }
}
