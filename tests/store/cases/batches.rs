//! `Tx` with a batch: one transaction for all of it.

use std::sync::Arc;

use abe_events::broker::DeadLetterFilter;
use abe_events::{Batch, BatchOutcome, Error, Outcome, Result, Tx, handlers, subscribe};

use super::common::{effects, rows, write};
use super::place::{Db, Place};
use crate::support::{Booked, Count, Notes, Paid, builder, until};

#[subscribe(name = "all", batch = 10, max_wait = "100ms")]
async fn all(batch: Batch<Paid>, mut tx: Tx<Db>, notes: &Notes) -> Result<Vec<Booked>> {
    notes.add(batch.len());
    for paid in &batch {
        write(&mut tx, paid.number, "of a batch").await?;
    }
    Ok(batch.iter().map(|paid| Booked { number: paid.number, account: paid.account }).collect())
}

#[subscribe(name = "booked")]
async fn booked(_booked: &Booked, count: &Count) {
    count.next();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_one_transaction_and_its_duplicates_are_left_out() {
    let Some(place) = Place::new().await else { return };
    let (notes, count) = (Notes::default(), Arc::new(Count::default()));
    let runtime = builder().store(&place.url).handlers(handlers![all, booked]).state(notes.clone()).shared_state(count.clone());
    let runtime = runtime.start().await.unwrap();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(runtime.publish(Paid::new(number)).await.unwrap());
    }
    runtime.settled().await;
    // Old ones, new ones, and a new one twice.
    for (number, id) in ids.iter().enumerate() {
        runtime.publishing(Paid::new(number as i64)).id(id.clone()).send().await.unwrap();
    }
    for number in [5, 6, 6] {
        runtime.publishing(Paid::new(number)).id(format!("new-{number}").parse().unwrap()).send().await.unwrap();
    }
    until("all events follow", async || count.get() == 7).await;
    runtime.settled().await;
    assert!(runtime.monitor().balances(), "{}", runtime.monitor());
    assert_eq!(runtime.monitor().total().duplicates, 6);
    runtime.stop().await;
    assert_eq!((effects(&place).await, notes.all().last().cloned()), ((0..7).collect::<Vec<_>>(), Some("2".to_owned())));
    assert_eq!(rows(&place, "inbox").await, 7);
}

#[subscribe(name = "some_fail", batch = 10, max_wait = "50ms", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn some_fail(batch: Batch<Paid>, mut tx: Tx<Db>, notes: &Notes) -> Result<BatchOutcome> {
    let mut outcome = BatchOutcome::others(Outcome::ack());
    notes.add(batch.len());
    for (index, paid) in batch.iter().enumerate() {
        write(&mut tx, paid.number, "tried").await?;
        match paid.number {
            3 => outcome.set(index, Outcome::reject("never")),
            5 => outcome.set(index, Outcome::retry()),
            _ => {}
        }
    }
    Ok(outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_of_a_batch_fails_all_is_rolled_back_and_the_others_come_again_without_it() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let runtime = builder().store(&place.url).handlers(handlers![some_fail]).state(notes.clone()).start().await.unwrap();
    runtime.publish_all((0..10).map(Paid::new)).await.unwrap();
    runtime.settled().await;
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    let mut attempts: Vec<u32> = letters.iter().map(|letter| letter.attempts).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2], "one was rejected, the other tried twice");
    assert!(runtime.monitor().balances(), "{}", runtime.monitor());
    runtime.stop().await;
    let expected: Vec<i64> = (0..10).filter(|number| ![3, 5].contains(number)).collect();
    assert_eq!((effects(&place).await, rows(&place, "inbox").await), (expected, 8));
}

#[subscribe(name = "opaque", batch = 4, max_wait = "50ms", retry(attempts = 4, min = "1ms", max = "1ms"))]
async fn opaque(batch: Batch<Paid>, mut tx: Tx<Db>) -> Result<()> {
    for paid in &batch {
        write(&mut tx, paid.number, "tried").await?;
    }
    if batch.iter().any(|paid| paid.number == 2) { Err(Error::msg("told to fail")) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_one_costs_itself_alone() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().store(&place.url).handlers(handlers![opaque]).start().await.unwrap();
    runtime.publish_all((0..4).map(Paid::new)).await.unwrap();
    runtime.settled().await;
    assert_eq!(runtime.monitor().total().dead, 1);
    runtime.stop().await;
    assert_eq!(effects(&place).await, [0, 1, 3]);
}
