//! `Tx`: effect, record and events commit together, once.

use std::sync::Arc;
use std::time::Duration;

use abe_events::sqlx;
use abe_events::{Context, Error, Result, Tx, handlers, subscribe};

use super::place::{Db, Place};
use crate::support::{Booked, Count, Notes, Paid, builder, until};

/// A program's own statement within the transaction.
async fn write(tx: &mut Tx<Db>, number: i64, note: &str) -> Result<()> {
    sqlx::query("INSERT INTO effect (number, note) VALUES ($1, $2)").bind(number).bind(note).execute(&mut **tx).await?;
    Ok(())
}

async fn effects(place: &Place) -> Vec<i64> {
    sqlx::query_scalar("SELECT number FROM effect ORDER BY number").fetch_all(&place.pool).await.unwrap()
}

async fn rows(place: &Place, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {}", Place::table(table));
    sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&place.pool).await.unwrap()
}

#[subscribe(name = "book", retry(attempts = 4, min = "1ms", max = "5ms"))]
async fn book(paid: &Paid, mut tx: Tx<Db>, ctx: &Context, count: &Count) -> Result<Booked> {
    write(&mut tx, paid.number, "booked").await?;
    let (number, account) = (paid.number, paid.account);
    tx.publish(Booked { number: 10 * number, account }).await?;
    ctx.publish(Booked { number: 10 * number + 1, account }).await?;
    // The first two attempts undo all of it, each in its own way.
    match count.next() {
        1 => Err(Error::msg("told to fail")),
        2 => panic!("told to panic"),
        _ => Ok(Booked { number: 10 * number + 2, account }),
    }
}

#[subscribe(name = "notice")]
async fn notice(booked: &Booked, ctx: &Context, notes: &Notes) {
    notes.add(format!("{} after {}", booked.number, ctx.hops()));
}

/// Runs `book` and `notice` on a broker, and waits until all of it is handled.
async fn effect_record_and_events(url: &str) {
    let Some(place) = Place::new().await else { return };
    let (notes, count) = (Notes::default(), Arc::new(Count::default()));
    let url = if url == "its own" { place.url.clone() } else { url.to_owned() };
    let handlers = handlers![book, notice];
    let start = || {
        let builder = builder().url(&url).store(&place.url).handlers(handlers).state(notes.clone()).shared_state(count.clone());
        builder.start()
    };
    let runtime = start().await.unwrap();
    let id = runtime.publish(Paid::new(1)).await.unwrap();
    until("three events follow", async || notes.len() == 3).await;
    runtime.settled().await;
    // The same again is recognised, by this runtime and by the next.
    for round in 1..=2 {
        runtime.publishing(Paid::new(1)).id(id.clone()).send().await.unwrap();
        until("the duplicate is told", async || runtime.monitor().total().duplicates == round).await;
    }
    runtime.settled().await;
    assert!(runtime.monitor().balances(), "{}", runtime.monitor());
    runtime.stop().await;
    let runtime = start().await.unwrap();
    runtime.publishing(Paid::new(1)).id(id).send().await.unwrap();
    until("the duplicate is told", async || runtime.monitor().total().duplicates == 1).await;
    runtime.stop().await;
    let mut all = notes.all();
    all.sort();
    assert_eq!((effects(&place).await, all), (vec![1], ["10 after 1", "11 after 1", "12 after 1"].map(str::to_owned).to_vec()));
    assert_eq!((rows(&place, "outbox").await, count.get()), (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effect_record_and_events_commit_together_and_once_with_the_memory_broker() {
    effect_record_and_events("memory://").await;
}

