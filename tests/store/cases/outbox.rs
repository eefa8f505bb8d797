//! Publishing in a transaction of the program's own: published if and when it commits.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abe_events::sqlx::{self, Acquire};
use abe_events::{Context, ErrorKind, Id, Result, Runtime, handlers, subscribe};

use super::common::{effects, rows, run};
use super::place::Place;
use crate::support::{Booked, Notes, Paid, builder, until};

#[subscribe(name = "note")]
async fn note(paid: &Paid, ctx: &Context, notes: &Notes) {
    let tenant = ctx.headers().get("tenant").unwrap_or("none");
    notes.add(format!("{} {} {} {tenant}", paid.number, ctx.id(), ctx.key().unwrap_or("none")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_published_and_what_is_rolled_back_never_was() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let runtime = builder().store(&place.url).handlers(handlers![note]).state(notes.clone()).start().await.unwrap();
    // Rolled back, dropped, and undone to a savepoint.
    let mut tx = place.pool.begin().await.unwrap();
    runtime.outbox(&mut tx).publish(Paid::new(1)).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = place.pool.begin().await.unwrap();
    runtime.outbox(&mut tx).publish(Paid::new(2)).await.unwrap();
    drop(tx);
    let mut tx = place.pool.begin().await.unwrap();
    let id = runtime.outbox(&mut tx).publish(Paid::new(3)).await.unwrap();
    let mut savepoint = tx.begin().await.unwrap();
    runtime.outbox(&mut savepoint).publish(Paid::new(4)).await.unwrap();
    savepoint.rollback().await.unwrap();
    let mut savepoint = tx.begin().await.unwrap();
    let mut outbox = runtime.outbox(&mut savepoint);
    let named: Id = "named".parse().unwrap();
    let sent = outbox.publishing(Paid::new(5)).id(named).key("other").header("tenant", "ours").delay(Duration::from_millis(20)).send();
    assert_eq!(sent.await.unwrap().to_string(), "named");
    outbox.publish_all([Paid::new(6), Paid::new(7)]).await.unwrap();
    savepoint.commit().await.unwrap();
    sqlx::query("INSERT INTO effect (number, note) VALUES (3, 'with it')").execute(&mut *tx).await.unwrap();
    // Nobody sees any of it before the commit.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(notes.len(), 0);
    tx.commit().await.unwrap();
    until("four are handled", async || notes.len() == 4).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut all = notes.all();
    all.sort();
    assert_eq!((all.len(), &all[0], &all[1]), (4, &format!("3 {id} 3 none"), &"5 named other ours".to_owned()));
    assert!(all[2].starts_with("6 ") && all[3].starts_with("7 "), "{all:?}");
    assert_eq!((effects(&place).await, rows(&place, "outbox").await), (vec![3], 0));
    until("it is counted", async || runtime.monitor().outbox.is_some_and(|outbox| outbox.relayed == 4 && outbox.pending == 0)).await;
    runtime.stop().await;
}

/// A runtime in a state: known once it has started.
#[derive(Default)]
struct Handle(OnceLock<Runtime>);

/// Opens a transaction of its own, as a function that knows nothing of handlers may.
#[subscribe(name = "book_on_its_own")]
async fn book_on_its_own(_: &Paid, place: &Place, handle: &Handle) -> Result<()> {
    let mut tx = place.pool.begin().await?;
    let mut outbox = handle.0.get().unwrap().outbox(&mut tx);
    outbox.publish(Booked { number: 1, account: 1 }).await?;
    outbox.publish_all([Booked { number: 2, account: 1 }]).await?;
    outbox.publishing(Booked { number: 3, account: 1 }).new_chain().send().await?;
    Ok(tx.commit().await?)
}

#[subscribe(name = "note_cause")]
async fn note_cause(booked: &Booked, ctx: &Context, notes: &Notes) {
    let cause = ctx.causation_id().map_or_else(|| "nothing".to_owned(), Id::to_string);
    notes.add(format!("{} after {}, because of {cause}", booked.number, ctx.hops()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_publishes_in_a_transaction_of_its_own_is_its_effect() {
    let Some(place) = Place::new().await else { return };
    let (place, notes, handle) = (Arc::new(place), Notes::default(), Arc::new(Handle::default()));
    let builder = builder().store(&place.url).handlers(handlers![book_on_its_own, note_cause]).state(notes.clone());
    let runtime = builder.shared_state(handle.clone()).shared_state(place.clone()).start().await.unwrap();
    assert!(handle.0.set(runtime.clone()).is_ok());
    let id = runtime.publish(Paid::new(1)).await.unwrap();
    until("three events follow", async || notes.len() == 3).await;
    let mut all = notes.all();
    all.sort();
    let expected =
        [format!("1 after 1, because of {id}"), format!("2 after 1, because of {id}"), "3 after 0, because of nothing".to_owned()];
    assert_eq!(all, expected);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_is_published_by_the_next_start() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let runtime = builder().store(&place.url).handlers(handlers![note]).state(notes.clone()).start().await.unwrap();
    runtime.stop().await;
    // The relay is gone; the program's transactions are not.
    let mut connection = place.pool.acquire().await.unwrap();
    runtime.outbox(&mut *connection).publish(Paid::new(1)).await.unwrap();
    drop(connection);
    assert_eq!((rows(&place, "outbox").await, notes.len()), (1, 0));
    let runtime = builder().store(&place.url).handlers(handlers![note]).state(notes.clone()).start().await.unwrap();
    until("it is handled", async || notes.len() == 1).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_store_or_on_another_database_it_is_refused() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().handlers(handlers![note]).state(Notes::default()).start().await.unwrap();
    let mut tx = place.pool.begin().await.unwrap();
    let error = runtime.outbox(&mut tx).publish(Paid::new(1)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(".store(..)"), "{error}");
    drop(tx);
    runtime.stop().await;
    if let Some(other) = Place::other().await {
        let runtime = builder().store(&other).handlers(handlers![note]).state(Notes::default()).start().await.unwrap();
        let mut tx = place.pool.begin().await.unwrap();
        let error = runtime.outbox(&mut tx).publish(Paid::new(1)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("the transaction is of"), "{error}");
        runtime.stop().await;
    }
    // The right kind, but not the store's: its tables are not there.
    let Some(another) = Place::new().await else { return };
    let runtime = builder().store(&another.url).handlers(handlers![note]).state(Notes::default()).start().await.unwrap();
    let mut tx = place.pool.begin().await.unwrap();
    let error = runtime.outbox(&mut tx).publish(Paid::new(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStored, "{error}");
    drop(tx);
    runtime.stop().await;
    run(&place, "SELECT 1").await;
}
