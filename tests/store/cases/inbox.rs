//! `idempotent` with a store: remembered over restarts, and by all who share the database.

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::{Error, Id, Result, handlers, subscribe};

use super::common::{number, rows, run};
use super::place::Place;
use crate::support::{Count, Notes, Paid, builder, until};

#[subscribe(name = "once", idempotent, retry(attempts = 3, min = "1ms", max = "1ms"))]
async fn once(paid: &Paid, notes: &Notes) -> Result<()> {
    notes.add(paid.number);
    // The first attempt at all fails, and must not be remembered as applied.
    if notes.len() == 1 { Err(Error::msg("told to fail")) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_first_attempt_is_not_remembered_and_a_success_is_over_restarts() {
    let Some(place) = Place::new().await else { return };
    let (notes, id) = (Notes::default(), "the-one".parse::<Id>().unwrap());
    for duplicates in [1, 2] {
        let runtime = builder().store(&place.url).handlers(handlers![once]).state(notes.clone()).start().await.unwrap();
        for _ in 0..2 {
            runtime.publishing(Paid::new(1)).id(id.clone()).send().await.unwrap();
            runtime.settled().await;
        }
        assert_eq!((notes.len(), runtime.monitor().total().duplicates), (2, duplicates));
        assert!(runtime.monitor().balances(), "{}", runtime.monitor());
        runtime.stop().await;
    }
    assert_eq!(rows(&place, "inbox").await, 1);
}

#[subscribe(name = "slow", idempotent(window = "1h"), concurrency = 4)]
async fn slow(paid: &Paid, count: &Count, notes: &Notes) {
    let now = count.next();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    notes.add(format!("{} by {now}", paid.number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_duplicates_one_runs_however_long_and_the_others_wait_and_skip() {
    let Some(place) = Place::new().await else { return };
    let (broker, count, notes) = (Arc::new(MemoryBroker::new()), Arc::new(Count::default()), Notes::default());
    // The handler takes five leases: its reservation is renewed.
    let start = || {
        let builder = builder().broker(broker.clone()).store(&place.url).lease(Duration::from_millis(300));
        builder.handlers(handlers![slow]).shared_state(count.clone()).state(notes.clone()).start()
    };
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    for _ in 0..8 {
        first.publishing(Paid::new(1)).id("the-one".parse().unwrap()).send().await.unwrap();
    }
    first.settled().await;
    second.settled().await;
    let (one, other) = (first.monitor().total(), second.monitor().total());
    first.stop().await;
    second.stop().await;
    assert_eq!((count.get(), notes.all(), one.duplicates + other.duplicates), (1, vec!["1 by 1".to_owned()], 7));
}

/// A row as a process left it that died while it ran, or that finished: `done`, and how long it is still valid.
async fn leave_behind(place: &Place, id: &str, done: bool, valid: Duration) {
    let table = Place::table("inbox");
    let (key, done, expires) = Place::literals(&format!("i{id}"), done, valid);
    let subscriber = format!("(SELECT max(number) FROM {})", Place::table("subscriber"));
    run(place, &format!("INSERT INTO {table} VALUES ({subscriber}, {key}, 7, {done}, {expires})")).await;
}

#[subscribe(name = "taken_over", idempotent(window = "1h"))]
async fn taken_over(paid: &Paid, notes: &Notes) {
    notes.add(paid.number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_of_a_dead_process_ends_with_its_lease_and_a_record_with_its_window() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let start = || builder().store(&place.url).handlers(handlers![taken_over]).state(notes.clone()).start();
    let runtime = start().await.unwrap();
    leave_behind(&place, "reserved", false, Duration::from_secs(1)).await;
    leave_behind(&place, "done", true, Duration::from_secs(3600)).await;
    leave_behind(&place, "done-long-ago", true, Duration::ZERO).await;
    for (number, id) in [(1, "reserved"), (2, "done"), (3, "done-long-ago")] {
        runtime.publishing(Paid::new(number)).id(id.parse().unwrap()).send().await.unwrap();
    }
    until("the other two are handled", async || runtime.monitor().total().duplicates == 1 && notes.len() == 1).await;
    assert_eq!(notes.all(), ["3"], "the first is somebody else's still");
    runtime.settled().await;
    assert_eq!(notes.all(), ["3", "1"]);
    runtime.stop().await;
}

#[subscribe(name = "stolen", idempotent(window = "1h"), retry(attempts = 1))]
async fn stolen(paid: &Paid, place: &Place) -> Result<()> {
    // Another process takes the reservation over, as after a stop of this one for longer than its lease.
    run(place, &format!("UPDATE {} SET token = 7", Place::table("inbox"))).await;
    if paid.number == 1 { Ok(()) } else { Err(Error::msg("told to fail")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_a_reservation_neither_records_nor_releases_it() {
    let Some(place) = Place::new().await else { return };
    let place = Arc::new(place);
    let runtime = builder().store(&place.url).handlers(handlers![stolen]).shared_state(place.clone()).start().await.unwrap();
    for number in [1, 2] {
        runtime.publish(Paid::new(number)).await.unwrap();
        runtime.settled().await;
    }
    runtime.stop().await;
    let table = Place::table("inbox");
    let (_, no, _) = Place::literals("", false, Duration::ZERO);
    assert_eq!(number(&place, &format!("SELECT count(*) FROM {table} WHERE done = {no} AND token = 7")).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_keys_are_removed_a_few_at_a_time() {
    let Some(place) = Place::new().await else { return };
    let runtime = builder().store(&place.url).handlers(handlers![taken_over]).state(Notes::default()).start().await.unwrap();
    for number in 0..1_200 {
        leave_behind(&place, &format!("old-{number}"), true, Duration::ZERO).await;
    }
    leave_behind(&place, "young", true, Duration::from_secs(3600)).await;
    let mut least_removed = i64::MAX;
    let mut left = 1_201;
    until("the old ones are gone", async || {
        let now = rows(&place, "inbox").await;
        if now < left {
            least_removed = least_removed.min(left - now);
        }
        left = now;
        now == 1
    })
    .await;
    assert!(least_removed <= 500, "{least_removed} at once");
    runtime.stop().await;
}

#[subscribe(name = "forgetful", idempotent(window = "1m"))]
async fn forgetful(_paid: &Paid) {}

#[tokio::test]
async fn a_window_shorter_than_the_retries_is_told() {
    let report = builder().handlers(handlers![forgetful]).check().unwrap();
    let warnings: Vec<String> = report.warnings().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|text| text.contains("`forgetful`") && text.contains("make `window` longer")), "{warnings:?}");
    let report = builder().handlers(handlers![once]).check().unwrap();
    assert_eq!(report.warnings().count(), 0);
}
