//! How many messages per second a handler with `Tx` handles: one row written per message, on a disk that syncs.
//!
//! `cargo bench -p abe-events --bench store`; with `ABE_BENCH_POSTGRES=postgres://…` on PostgreSQL as well.
#![expect(clippy::print_stdout, reason = "a benchmark talks to the terminal")]

use std::time::{Duration, Instant};

use abe_events::config::Config;
use abe_events::policy::PolicyPatch;
use abe_events::sqlx::{self, Sqlite};
use abe_events::{Batch, Result, Runtime, Tx, event, handlers, subscribe};

#[event(topic = "bench.paid")]
struct Paid {
    number: i64,
}

#[subscribe(name = "single")]
async fn single(paid: &Paid, mut tx: Tx<Sqlite>) -> Result<()> {
    sqlx::query("INSERT INTO effect VALUES (?)").bind(paid.number).execute(&mut *tx).await?;
    Ok(())
}

#[subscribe(name = "batch", batch = 50, max_wait = "5ms")]
async fn batch(batch: Batch<Paid>, mut tx: Tx<Sqlite>) -> Result<()> {
    for paid in &batch {
        sqlx::query("INSERT INTO effect VALUES (?)").bind(paid.number).execute(&mut *tx).await?;
    }
    Ok(())
}

#[subscribe(name = "idempotent", idempotent)]
async fn idempotent(_paid: &Paid) {}

#[cfg(feature = "postgres")]
mod postgres {
    use abe_events::sqlx::Postgres;

    use super::*;

    #[subscribe(name = "single_in_postgres")]
    pub(crate) async fn single(paid: &Paid, mut tx: Tx<Postgres>) -> Result<()> {
        sqlx::query("INSERT INTO effect VALUES ($1)").bind(paid.number).execute(&mut *tx).await?;
        Ok(())
    }

    #[subscribe(name = "batch_in_postgres", batch = 50, max_wait = "5ms")]
    pub(crate) async fn batch(batch: Batch<Paid>, mut tx: Tx<Postgres>) -> Result<()> {
        for paid in &batch {
            sqlx::query("INSERT INTO effect VALUES ($1)").bind(paid.number).execute(&mut *tx).await?;
        }
        Ok(())
    }
}

async fn measure(
    name: &str,
    handler: &'static abe_events::handler::HandlerDescriptor,
    broker: &str,
    store: &str,
    concurrency: u32,
    count: i64,
) -> Result<()> {
    let defaults = PolicyPatch { concurrency: Some(concurrency), buffer: Some(65_536), ..PolicyPatch::NONE };
    let builder = Runtime::builder().config(Config::default()).url(broker).store(store).defaults(defaults).handlers([handler]);
    let runtime = builder.start().await?;
    let began = Instant::now();
    runtime.publish_all((0..count).map(|number| Paid { number })).await?;
    while runtime.monitor().total().succeeded < count as u64 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("{name:<44} {:>8.0} messages/s", count as f64 / began.elapsed().as_secs_f64());
    runtime.stop().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let url = |name: &str| format!("sqlite://{}", folder.join(name).display());
    let (single, batch, idempotent) = (handlers![single][0], handlers![batch][0], handlers![idempotent][0]);
    for name in ["store.db", "one.db"] {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join(name)).create_if_missing(true);
        let pool = sqlx::SqlitePool::connect_with(options).await?;
        sqlx::query("CREATE TABLE effect (number INTEGER)").execute(&pool).await?;
        pool.close().await;
    }
    measure("memory + SQLite, single", single, "memory://", &url("store.db"), 1, 3_000).await?;
    measure("memory + SQLite, single, 4 lanes", single, "memory://", &url("store.db"), 4, 3_000).await?;
    measure("memory + SQLite, batches of 50", batch, "memory://", &url("store.db"), 1, 50_000).await?;
    measure("memory + SQLite, idempotent without Tx", idempotent, "memory://", &url("store.db"), 1, 10_000).await?;
    measure("one SQLite file, single", single, &url("one.db"), &url("one.db"), 1, 1_000).await?;
    measure("one SQLite file, single, 4 lanes", single, &url("one.db"), &url("one.db"), 4, 1_000).await?;
    measure("one SQLite file, batches of 50", batch, &url("one.db"), &url("one.db"), 1, 20_000).await?;
    measure("two SQLite files, single", single, &url("broker.db"), &url("store.db"), 1, 1_000).await?;
    measure("two SQLite files, single, 4 lanes", single, &url("broker.db"), &url("store.db"), 4, 1_000).await?;
    #[cfg(feature = "postgres")]
    if let Ok(store) = std::env::var("ABE_BENCH_POSTGRES") {
        let pool = sqlx::PgPool::connect(&store).await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS effect (number BIGINT)").execute(&pool).await?;
        let (single, batch) = (handlers![postgres::single][0], handlers![postgres::batch][0]);
        measure("memory + PostgreSQL, single", single, "memory://", &store, 1, 3_000).await?;
        measure("memory + PostgreSQL, single, 4 lanes", single, "memory://", &store, 4, 6_000).await?;
        measure("memory + PostgreSQL, batches of 50", batch, "memory://", &store, 1, 20_000).await?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
