//! Batches: size, age, bytes, outcomes per item, and one poisoned item that costs itself alone.

use std::time::Duration;

use abe_events::testing::TestBus;
use abe_events::{Batch, BatchOutcome, Error, Outcome, Result, handlers, subscribe};

use super::support::{Notes, Ordered};

fn sizes(notes: &Notes) -> Vec<usize> {
    notes.all().iter().map(|note| note.parse().unwrap()).collect()
}

#[subscribe(batch = 10, max_wait = "5s")]
async fn collect(orders: Batch<Ordered>, notes: &Notes) {
    notes.add(orders.len());
}

#[abe_events::test]
async fn a_batch_runs_when_it_is_full_and_when_its_first_message_is_old_enough(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![collect]).state(notes.clone()).start().await;
    bus.publish_all((0..25).map(Ordered::new)).await;
    let began = tokio::time::Instant::now();
    bus.settled().await;
    assert_eq!(sizes(&notes), [10, 10, 5]);
    assert!((5.0..5.1).contains(&began.elapsed().as_secs_f64()), "max_wait is the age of the oldest: {:?}", began.elapsed());
}

#[abe_events::test]
async fn max_wait_is_a_maximum_age_and_not_a_debounce(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![collect]).state(notes.clone()).start().await;
    // One every two seconds: a debounce of five would never run; an age of five runs with three.
    for number in 0..6 {
        bus.publish(Ordered::new(number)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    bus.settled().await;
    assert_eq!(sizes(&notes), [3, 3]);
}

#[subscribe(batch = 1000, bytes = "2KiB", max_wait = "50ms")]
async fn by_bytes(orders: Batch<Ordered>, notes: &Notes) {
    notes.add(orders.len());
}

#[abe_events::test]
async fn a_batch_is_bounded_in_bytes(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![by_bytes]).state(notes.clone()).start().await;
    bus.publish_all((0..100).map(Ordered::new)).await;
    bus.settled().await;
    let sizes = sizes(&notes);
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size < 40), "{sizes:?}");
}

#[subscribe(batch = 10, max_wait = "10ms", retry(attempts = 3, min = "1ms", max = "1ms"))]
async fn each_its_own(orders: Batch<Ordered>) -> BatchOutcome {
    orders
        .iter()
        .map(|order| match order.number % 10 {
            0..3 => Outcome::ack(),
            3..6 => Outcome::retry(),
            _ => Outcome::reject("no"),
        })
        .collect()
}

#[abe_events::test]
async fn i33_each_item_of_a_batch_has_its_own_outcome(bus: TestBus) {
    let bus = bus.handlers(handlers![each_its_own]).start().await;
    bus.publish_all((0..10).map(Ordered::new)).await;
    bus.settled().await;
    let acked: Vec<u32> = bus.handled_events::<Ordered>("each_its_own").iter().map(|order| order.number).collect();
    assert_eq!(acked, [0, 1, 2]);
    let letters = bus.dead_letters().await;
    let attempts = |of: u32| letters.iter().filter(|letter| letter.attempts == of).count();
    assert_eq!((attempts(1), attempts(3), letters.len()), (4, 3, 7));
}

#[subscribe(batch = 20, max_wait = "10ms", retry(attempts = 5, min = "1ms", max = "2ms"))]
async fn poisoned(orders: Batch<Ordered>, notes: &Notes) -> Result<()> {
    for order in &orders {
        if order.number == 7 {
            return Err(Error::msg("poison"));
        }
    }
    for order in &orders {
        notes.add(order.number);
    }
    Ok(())
}

#[abe_events::test]
async fn i33_a_poisoned_item_costs_itself_alone_after_two_opaque_failures(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![poisoned]).state(notes.clone()).start().await;
    bus.publish_all((0..20).map(Ordered::new)).await;
    bus.settled().await;
    let letters = bus.dead_letters().await;
    assert_eq!(letters.len(), 1, "the other 19 are handled");
    assert_eq!(letters[0].attempts, 5);
    let mut handled = notes.all();
    handled.sort();
    handled.dedup();
    assert_eq!((notes.len(), handled.len()), (19, 19));
}

#[subscribe(batch = 5, max_wait = "10ms", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn panics(orders: Batch<Ordered>) {
    assert!(orders.len() > 100, "whole batch");
}

#[subscribe(batch = 5, max_wait = "10ms", timeout = "1s", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn hangs(_orders: Batch<Ordered>) {
    std::future::pending::<()>().await;
}

#[abe_events::test]
async fn i33_a_panic_or_timeout_fails_every_item_and_acks_none(bus: TestBus) {
    let bus = bus.handlers(handlers![panics, hangs]).start().await;
    bus.publish_all((0..5).map(Ordered::new)).await;
    bus.settled().await;
    bus.expect_panics(10);
    assert_eq!((bus.handled("panics"), bus.handled("hangs")), (0, 0));
    assert_eq!(bus.dead_letters().await.len(), 10);
    assert!(bus.monitor().balances());
}

#[subscribe(batch = 4, max_wait = "10ms", filter = |order| order.number % 2 == 0)]
async fn filtered_batch(orders: Batch<Ordered>, notes: &Notes) {
    notes.add(orders.len());
}

#[abe_events::test]
async fn a_filter_runs_before_the_batch_is_filled(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![filtered_batch]).state(notes.clone()).start().await;
    bus.publish_all((0..16).map(Ordered::new)).await;
    bus.settled().await;
    assert_eq!((sizes(&notes), bus.filtered("filtered_batch")), (vec![4, 4], 8));
}
