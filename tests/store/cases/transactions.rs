//! `Tx`: effect, record and events commit together, once.

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{DeadLetterFilter, FailureKind};
use abe_events::sqlx;
use abe_events::{Context, Error, ErrorKind, Id, Result, State, Tx, handlers, subscribe};

use super::common::{effects, number, rows, write};
use super::place::{Db, Place};
use crate::support::{Booked, Count, Notes, Paid, builder, until};

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

/// Runs `book` and `notice` on a broker, and looks at all that is left.
async fn effect_record_and_events(place: &Place, url: &str) {
    let (notes, count) = (Notes::default(), Arc::new(Count::default()));
    let handlers = handlers![book, notice];
    let start = || builder().url(url).store(&place.url).handlers(handlers).state(notes.clone()).shared_state(count.clone()).start();
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
    assert_eq!((effects(place).await, all), (vec![1], ["10 after 1", "11 after 1", "12 after 1"].map(str::to_owned).to_vec()));
    assert_eq!((rows(place, "outbox").await, count.get()), (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effect_record_and_events_commit_together_and_once_with_the_memory_broker() {
    let Some(place) = Place::new().await else { return };
    effect_record_and_events(&place, "memory://").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effect_record_and_events_commit_together_and_once_with_a_broker_in_a_file() {
    let (Some(place), Some(own)) = (Place::new().await, crate::support::File::new()) else { return };
    effect_record_and_events(&place, &own.url).await;
}

#[subscribe(name = "fails_for_good", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn fails_for_good(paid: &Paid, tx: &mut Tx<Db>) -> Result<()> {
    write(tx, paid.number, "undone").await?;
    tx.publish(Booked { number: 1, account: 1 }).await?;
    Err(Error::msg("told to fail"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_leaves_neither_effect_nor_record_nor_event() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let runtime = builder().store(&place.url).handlers(handlers![fails_for_good, notice]).state(notes.clone()).start().await.unwrap();
    runtime.publish(Paid::new(1)).await.unwrap();
    runtime.settled().await;
    assert_eq!(runtime.dead_letters().list(&DeadLetterFilter::default()).await.unwrap().len(), 1);
    runtime.stop().await;
    assert_eq!((effects(&place).await, rows(&place, "inbox").await, rows(&place, "outbox").await, notes.len()), (vec![], 0, 0, 0));
}

#[subscribe(name = "too_slow", timeout = "150ms", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn too_slow(paid: &Paid, mut tx: Tx<Db>, count: &Count) -> Result<()> {
    write(&mut tx, paid.number, "slow").await?;
    if count.next() == 1 {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_rolls_back() {
    let Some(place) = Place::new().await else { return };
    let count = Arc::new(Count::default());
    let runtime = builder().store(&place.url).handlers(handlers![too_slow]).shared_state(count.clone()).start().await.unwrap();
    runtime.publish(Paid::new(7)).await.unwrap();
    runtime.settled().await;
    runtime.stop().await;
    assert_eq!((effects(&place).await, count.get()), (vec![7], 2));
}

#[subscribe(name = "one", concurrency = 2)]
async fn one(paid: &Paid, mut tx: Tx<Db>) -> Result<()> {
    write(&mut tx, paid.number, "one").await
}

#[subscribe(name = "other")]
async fn other(paid: &Paid, mut tx: Tx<Db>) -> Result<()> {
    write(&mut tx, 100 + paid.number, "other").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handlers_of_one_event_both_run_and_two_events_never_collide() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().store(&place.url).handlers(handlers![one, other]).start().await.unwrap();
    runtime.publish_all((0..20).map(Paid::new)).await.unwrap();
    runtime.settled().await;
    runtime.stop().await;
    assert_eq!(effects(&place).await, (0..20).chain(100..120).collect::<Vec<_>>());
    assert_eq!(rows(&place, "inbox").await, 40);
}

#[subscribe(name = "slow_once", concurrency = 4)]
async fn slow_once(paid: &Paid, mut tx: Tx<Db>, count: &Count) -> Result<()> {
    write(&mut tx, paid.number, "slow").await?;
    tokio::time::sleep(Duration::from_millis(30)).await;
    // Every third undoes what it did, after a duplicate has waited for it.
    if count.next() % 3 == 1 { Err(Error::msg("told to fail")) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_duplicates_in_two_runtimes_one_has_an_effect() {
    let Some(place) = Place::new().await else { return };
    let (broker, count) = (Arc::new(MemoryBroker::new()), Arc::new(Count::default()));
    let start = || builder().broker(broker.clone()).store(&place.url).handlers(handlers![slow_once]).shared_state(count.clone()).start();
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    for number in 0..8 {
        let id: Id = format!("event-{number}").parse().unwrap();
        for _ in 0..4 {
            first.publishing(Paid::new(number)).id(id.clone()).send().await.unwrap();
        }
    }
    first.settled().await;
    second.settled().await;
    let (one, other) = (first.monitor().total(), second.monitor().total());
    first.stop().await;
    second.stop().await;
    assert_eq!(effects(&place).await, (0..8).collect::<Vec<_>>());
    assert_eq!((one.succeeded + other.succeeded, one.duplicates + other.duplicates), (8, 24));
}

#[subscribe(name = "stops_for_long")]
async fn stops_for_long(paid: &Paid, mut tx: Tx<Db>, count: &Count) -> Result<()> {
    let call = count.next();
    write(&mut tx, 10 * paid.number + i64::from(call), "by this call").await?;
    if call == 1 {
        // As a process that is stopped: nothing renews its leases meanwhile.
        #[expect(clippy::disallowed_methods, reason = "that is what is tried")]
        std::thread::sleep(Duration::from_millis(1_500));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_lost_the_lease_does_not_commit() {
    let Some(place) = Place::new().await else { return };
    let (broker, count) = (Arc::new(MemoryBroker::new()), Arc::new(Count::default()));
    let start = || {
        let builder = builder().broker(broker.clone()).store(&place.url).lease(Duration::from_millis(300));
        builder.handlers(handlers![stops_for_long]).shared_state(count.clone()).start()
    };
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    first.publish(Paid::new(1)).await.unwrap();
    until("somebody has an effect", async || !effects(&place).await.is_empty()).await;
    first.settled().await;
    second.settled().await;
    first.stop().await;
    second.stop().await;
    assert_eq!((effects(&place).await, count.get()), (vec![12], 2), "the first call was late, and the second had its effect");
}

#[subscribe(name = "passes_over", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn passes_over(paid: &Paid, mut tx: Tx<Db>) -> Result<()> {
    write(&mut tx, paid.number, "before").await?;
    let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await;
    let _ = sqlx::query("SELECT nonsense FROM nowhere").execute(&mut *tx).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_handler_ended_is_not_acked() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().store(&place.url).handlers(handlers![passes_over]).start().await.unwrap();
    runtime.publish(Paid::new(1)).await.unwrap();
    runtime.settled().await;
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason().contains("was ended within the handler"), "{}", letters[0].reason());
    runtime.stop().await;
    assert_eq!((effects(&place).await, rows(&place, "inbox").await), (vec![], 0));
}

#[subscribe(name = "keeps", retry(attempts = 1))]
async fn keeps(paid: &Paid, mut tx: Tx<Db>) -> Result<()> {
    write(&mut tx, paid.number, "kept").await?;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(tx);
    });
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_kept_beyond_the_handlers_return_fails_the_attempt_and_is_rolled_back() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().store(&place.url).handlers(handlers![keeps, other]).start().await.unwrap();
    runtime.publish(Paid::new(1)).await.unwrap();
    runtime.settled().await;
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    assert!(letters[0].reason().contains("beyond its return"), "{}", letters[0].reason());
    runtime.stop().await;
    assert_eq!(effects(&place).await, [101]);
}

#[subscribe(name = "breaks_late", retry(attempts = 3, min = "1ms", max = "1ms"))]
async fn breaks_late(paid: &Paid, mut tx: Tx<Db>, count: &Count) -> Result<()> {
    count.next();
    sqlx::query("INSERT INTO child (parent) VALUES ($1)").bind(paid.number).execute(&mut *tx).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_commit_refuses_is_a_failed_attempt() {
    let Some(place) = Place::new().await else { return };
    let tables = "CREATE TABLE parent (number BIGINT PRIMARY KEY);
                  CREATE TABLE child (parent BIGINT REFERENCES parent DEFERRABLE INITIALLY DEFERRED)";
    super::common::run(&place, tables).await;
    let count = Arc::new(Count::default());
    let runtime = builder().store(&place.url).handlers(handlers![breaks_late]).shared_state(count.clone()).start().await.unwrap();
    runtime.publish(Paid::new(1)).await.unwrap();
    runtime.settled().await;
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    let failure = letters[0].failures.last().unwrap();
    assert_eq!((count.get(), failure.kind), (3, FailureKind::Error));
    assert!(failure.text.contains("constraint"), "{}", failure.text);
    runtime.stop().await;
    assert_eq!((number(&place, "SELECT count(*) FROM child").await, rows(&place, "inbox").await), (0, 0));
}

#[subscribe(name = "by_account", idempotent(key = |paid| paid.account, window = "1h"))]
async fn by_account(paid: &Paid, mut tx: Tx<Db>) -> Result<()> {
    write(&mut tx, paid.number, "first of its account").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_follows_the_key_that_idempotent_names() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().store(&place.url).handlers(handlers![by_account]).start().await.unwrap();
    for number in [0, 4, 8, 1] {
        runtime.publish(Paid::new(number)).await.unwrap();
    }
    runtime.settled().await;
    runtime.stop().await;
    assert_eq!(effects(&place).await, [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_may_bring_its_own_pool() {
    let Some(place) = Place::new().await else { return };
    let runtime = place.builder().handlers(handlers![one, other]).start().await.unwrap();
    runtime.publish(Paid::new(1)).await.unwrap();
    runtime.settled().await;
    runtime.stop().await;
    // It is the program's to close.
    assert_eq!(effects(&place).await, [1, 101]);
    let error = place.builder().store(&place.url).handlers(handlers![one]).start().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Start && error.to_string().contains("one store"), "{error}");
}

#[tokio::test]
async fn without_a_store_or_with_another_the_start_says_what_to_do() {
    let error = builder().handlers(handlers![one]).start().await.unwrap_err().to_string();
    for said in ["handler `one`", "there is no SQL store", ".store(", "transactions.rs:"] {
        assert!(error.contains(said), "{error}");
    }
    if let Some(other) = Place::other().await {
        let error = builder().store(&other).handlers(handlers![one]).start().await.unwrap_err().to_string();
        for said in ["handler `one`", "but the store is", "take `Tx<", "transactions.rs:"] {
            assert!(error.contains(said), "{error}");
        }
    }
}

struct Unused;

#[subscribe(name = "optional")]
async fn optional(paid: &Paid, tx: Option<Tx<Db>>, State(notes): State<Notes>, _: Option<State<Unused>>) -> Result<()> {
    notes.add(tx.is_some());
    match tx {
        Some(mut tx) => write(&mut tx, paid.number, "there").await,
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_may_do_without() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    for runtime in [builder(), builder().store(&place.url)] {
        let runtime = runtime.handlers(handlers![optional]).state(notes.clone()).start().await.unwrap();
        runtime.publish(Paid::new(1)).await.unwrap();
        runtime.settled().await;
        runtime.stop().await;
    }
    assert_eq!((notes.all(), effects(&place).await), (vec!["false".to_owned(), "true".to_owned()], vec![1]));
}
