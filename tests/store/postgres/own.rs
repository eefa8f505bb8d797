//! What only PostgreSQL has: an SQL function, errors that poison a transaction, commits out of order.

use std::time::Duration;

use abe_events::broker::DeadLetterFilter;
use abe_events::sqlx;
use abe_events::{Context, Result, Tx, handlers, subscribe};

use super::common::{effects, number, rows, write};
use super::place::{Db, Place};
use crate::support::{Notes, Paid, builder, until};

#[subscribe(name = "swallows", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn swallows(paid: &Paid, mut tx: Tx<Db>) -> Result<()> {
    write(&mut tx, paid.number, "before").await?;
    let _ = sqlx::query("SELECT nonsense FROM nowhere").execute(&mut *tx).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_failed_and_was_passed_over_is_not_acked_with_an_empty_commit() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().store(&place.url).handlers(handlers![swallows]).start().await.unwrap();
    runtime.publish(Paid::new(1)).await.unwrap();
    runtime.settled().await;
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason().contains("went on as if it had not"), "{}", letters[0].reason());
    runtime.stop().await;
    assert_eq!((effects(&place).await, rows(&place, "inbox").await), (vec![], 0));
}

#[subscribe(name = "from_sql", ordered)]
async fn from_sql(paid: &Paid, ctx: &Context, notes: &Notes) {
    notes.add(format!("{} {} {}", paid.number, ctx.key().unwrap_or("none"), ctx.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_program_publishes_by_the_sql_function_in_its_own_transaction() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let runtime = builder().store(&place.url).handlers(handlers![from_sql]).state(notes.clone()).start().await.unwrap();
    let publish = "SELECT abe_events.publish('store.paid', $1, key => 'k', id => $2)";
    let event = |number: i64| format!("{{\"number\": {number}, \"account\": 0}}");
    let mut tx = place.pool.begin().await.unwrap();
    sqlx::query(publish).bind(event(1)).bind("rolled-back").execute(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = place.pool.begin().await.unwrap();
    sqlx::query(publish).bind(event(2)).bind("as-text").execute(&mut *tx).await.unwrap();
    sqlx::query(publish).bind(event(3).into_bytes()).bind("as-bytes").execute(&mut *tx).await.unwrap();
    let id: String = sqlx::query_scalar("SELECT abe_events.publish('store.paid', $1)").bind(event(4)).fetch_one(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    until("three are handled", async || notes.len() == 3).await;
    let mut all = notes.all();
    all.sort();
    assert_eq!(all, ["2 k as-text".to_owned(), "3 k as-bytes".to_owned(), format!("4 none {id}")]);
    for bad in ["'no topic', '{}'", "'_internal', '{}'", "'a', NULL::bytea", "'a', '{}', version => 0", "'a', '{}', id => ''"] {
        let statement = format!("SELECT abe_events.publish({bad})");
        let refused = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&place.pool).await;
        assert!(refused.is_err(), "{bad}");
    }
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_commit_out_of_order_are_all_found() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let runtime = builder().store(&place.url).handlers(handlers![from_sql]).state(notes.clone()).start().await.unwrap();
    // The first takes its number first, and commits last; one in between never does.
    let mut first = place.pool.begin().await.unwrap();
    runtime.outbox(&mut first).publish(Paid::new(1)).await.unwrap();
    let mut never = place.pool.begin().await.unwrap();
    runtime.outbox(&mut never).publish(Paid::new(2)).await.unwrap();
    let mut last = place.pool.begin().await.unwrap();
    runtime.outbox(&mut last).publish(Paid::new(3)).await.unwrap();
    last.commit().await.unwrap();
    until("the last is handled", async || notes.len() == 1 && rows(&place, "outbox").await == 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.commit().await.unwrap();
    never.rollback().await.unwrap();
    until("the first is handled", async || notes.len() == 2).await;
    let numbers: Vec<String> = notes.all().iter().map(|note| note[..1].to_owned()).collect();
    assert_eq!(numbers, ["3", "1"]);
    runtime.stop().await;
}

#[subscribe(name = "idles", timeout = "200ms", retry(attempts = 1))]
async fn idles(_paid: &Paid, mut tx: Tx<Db>, notes: &Notes) -> Result<()> {
    let setting: String = sqlx::query_scalar("SHOW idle_in_transaction_session_timeout").fetch_one(&mut *tx).await?;
    notes.add(setting);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_a_stopped_process_is_ended_by_the_server() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let runtime = builder().store(&place.url).handlers(handlers![idles]).state(notes.clone()).start().await.unwrap();
    runtime.publish(Paid::new(1)).await.unwrap();
    runtime.settled().await;
    runtime.stop().await;
    assert_eq!(notes.all(), ["10200ms"], "its timeout and ten seconds");
    assert_eq!(
        number(&place, "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_start_at_once_make_the_tables_once() {
    let Some(place) = Place::new().await else { return };
    let url = format!("{}?schema=a_schema_of_ours", place.url);
    let starts = (0..8).map(|_| {
        let builder = builder().store(&url).handlers(handlers![idles]).state(Notes::default());
        tokio::spawn(async move { builder.start().await.unwrap().stop().await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap();
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'a_schema_of_ours' AND tablename = 'abe_inbox'";
    assert_eq!(number(&place, tables).await, 1);
}
