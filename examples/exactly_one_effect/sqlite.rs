//! The ledger on SQLite.

use std::path::Path;
use std::time::Duration;

use abe_events::config::Config;
use abe_events::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use abe_events::sqlx::{self, Sqlite, SqlitePool};
use abe_events::{Result, Runtime, Tx, handlers, subscribe};

use super::{ACCOUNTS, CENTS_EACH, Sums, TRANSFERS, TransferBooked, TransferRequested, supervise, tell_wished, transfers};

#[subscribe(name = "transfer", concurrency = 4)]
async fn transfer(wish: &TransferRequested, mut tx: Tx<Sqlite>) -> Result<TransferBooked> {
    let book = "UPDATE account SET cents = cents + ? WHERE number = ?";
    sqlx::query(book).bind(-wish.cents).bind(wish.from).execute(&mut *tx).await?;
    sqlx::query(book).bind(wish.cents).bind(wish.to).execute(&mut *tx).await?;
    sqlx::query("INSERT INTO transfer (number) VALUES (?)").bind(wish.number).execute(&mut *tx).await?;
    // Published with the transaction, or never.
    Ok(TransferBooked { number: wish.number })
}

#[subscribe(name = "receipt")]
async fn receipt(booked: &TransferBooked, mut tx: Tx<Sqlite>) -> Result<()> {
    sqlx::query("INSERT INTO receipt (number) VALUES (?)").bind(booked.number).execute(&mut *tx).await?;
    Ok(())
}

async fn open(place: &str) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new().filename(place).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    Ok(SqlitePoolOptions::new().max_connections(8).connect_with(options).await?)
}

async fn start(pool: &SqlitePool, broker: &Path) -> Result<Runtime> {
    let builder = Runtime::builder().config(Config::default()).url(format!("sqlite://{}", broker.display()));
    let builder = builder.sqlite_pool(pool.clone()).lease(Duration::from_millis(500));
    builder.handlers(handlers![transfer, receipt]).start().await
}

/// A worker: handles until everything is done, or it is killed.
pub(crate) async fn work(place: &str, broker: &Path) -> Result<()> {
    let pool = open(place).await?;
    let runtime = start(&pool, broker).await?;
    let receipts = "SELECT count(*) FROM receipt";
    while sqlx::query_scalar::<_, i64>(receipts).fetch_one(&pool).await? < TRANSFERS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    runtime.settled().await;
    runtime.stop().await;
    Ok(())
}

/// Makes the ledger, wishes for transfers, and lets workers work and die.
pub(crate) async fn run(place: &str, broker: &Path) -> Result<Sums> {
    let pool = open(place).await?;
    let tables = "CREATE TABLE account (number INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
                  CREATE TABLE transfer (number INTEGER NOT NULL);
                  CREATE TABLE receipt (number INTEGER NOT NULL)";
    sqlx::raw_sql(tables).execute(&pool).await?;
    for number in 0..ACCOUNTS {
        sqlx::query("INSERT INTO account VALUES (?, ?)").bind(number).bind(CENTS_EACH).execute(&pool).await?;
    }
    // Its subscriptions are there for the workers; it handles nothing itself.
    let runtime = start(&pool, broker).await?;
    runtime.stop().await;
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    runtime.outbox(&mut tx).publish_all(transfers()).await?;
    tx.commit().await?;
    tell_wished();
    supervise(place, broker).await?;
    let sums = "SELECT (SELECT sum(cents) FROM account), (SELECT count(*) FROM transfer), \
                (SELECT count(DISTINCT number) FROM transfer), (SELECT count(DISTINCT number) FROM receipt)";
    let (cents, transfers, different, receipts) = sqlx::query_as(sums).fetch_one(&pool).await?;
    pool.close().await;
    Ok(Sums { cents, transfers, different, receipts })
}
