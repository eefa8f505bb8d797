//! An order and the event of it, in one transaction of the program's own: both are there, or neither.
//!
//! ```sh
//! cargo run --example outbox
//! ```
//!
//! The broker here is in memory; the outbox is in the program's database. It prints the following, the second and third line in any order:
//!
//! ```text
//! order 1 is stored
//! order 2 is rolled back
//! handled: order 1 of Ada
//! orders in the database: 1, events left in the outbox: 0
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod support;

use abe_events::config::Config;
use abe_events::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use abe_events::sqlx::{self, SqlitePool};
use abe_events::{Result, Runtime, event, handlers, subscribe};

/// A customer placed an order.
#[event(topic = "order.created", key = order_id)]
struct OrderCreated {
    order_id: i64,
    customer: String,
}

#[subscribe(name = "confirm")]
async fn confirm(order: &OrderCreated) {
    println!("handled: order {} of {}", order.order_id, order.customer);
}

/// Stores an order and publishes its event, if all goes well.
async fn order(runtime: &Runtime, pool: &SqlitePool, customer: &str, goes_well: bool) -> Result<()> {
    // A transaction that will write says so at once: SQLite lets no reader become a writer behind another's back.
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let stored = sqlx::query("INSERT INTO orders (customer) VALUES (?)").bind(customer).execute(&mut *tx).await?;
    let order_id = stored.last_insert_rowid();
    runtime.outbox(&mut tx).publish(OrderCreated { order_id, customer: customer.to_owned() }).await?;
    if goes_well {
        tx.commit().await?;
        println!("order {order_id} is stored");
    } else {
        tx.rollback().await?;
        println!("order {order_id} is rolled back");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("abe-events-outbox-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let options = SqliteConnectOptions::new().filename(folder.join("shop.db")).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
    sqlx::query("CREATE TABLE orders (order_id INTEGER PRIMARY KEY, customer TEXT NOT NULL)").execute(&pool).await?;

    let builder = Runtime::builder().config(Config::default()).sqlite_pool(pool.clone());
    let runtime = builder.handlers(handlers![confirm]).start().await?;
    order(&runtime, &pool, "Ada", true).await?;
    order(&runtime, &pool, "Bob", false).await?;

    // The relay has published it when it was handled and its row is gone.
    let left = "SELECT count(*) FROM abe_outbox";
    while runtime.monitor().total().succeeded == 0 || sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await? > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    support::settled(&runtime).await;
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&pool).await?;
    let left: i64 = sqlx::query_scalar(left).fetch_one(&pool).await?;
    println!("orders in the database: {orders}, events left in the outbox: {left}");
    runtime.stop().await;
    pool.close().await;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
