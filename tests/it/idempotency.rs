//! Duplicates: skipped after success, retried after failure, never two at once.

use std::sync::Arc;
use std::time::Duration;

use abe_events::testing::TestBus;
use abe_events::{Batch, Error, Id, Message, Result, handlers, subscribe};

use super::support::{Gauge, Notes, Ordered};

fn again(bus: &abe_events::testing::Bus, id: &Id) -> Message {
    bus.messages().into_iter().find(|message| message.id() == id).unwrap()
}

#[subscribe(idempotent)]
async fn once(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

#[subscribe(idempotent)]
async fn once_as_well(order: &Ordered, notes: &Notes) {
    notes.add(format!("also {}", order.number));
}

#[abe_events::test]
async fn i28_a_duplicate_is_skipped_per_subscription_and_other_ids_never_collide(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![once, once_as_well]).state(notes.clone()).start().await;
    let id = bus.publish(Ordered::new(1)).await;
    bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    bus.publish_message(again(&bus, &id)).await;
    bus.duplicate_next(1);
    bus.publish(Ordered::new(2)).await;
    bus.settled().await;
    let mut all = notes.all();
    all.sort();
    assert_eq!(all, ["1", "1", "2", "also 1", "also 1", "also 2"]);
    assert_eq!((bus.duplicates("once"), bus.duplicates("once_as_well")), (2, 2));
    assert!(bus.monitor().balances(), "{}", bus.monitor());
}

#[subscribe(idempotent, retry(attempts = 3, min = "1ms", max = "1ms"))]
async fn fails_first(order: &Ordered, notes: &Notes) -> Result<()> {
    notes.add(order.number);
    if notes.len() == 1 { Err(Error::msg("first")) } else { Ok(()) }
}

#[abe_events::test]
async fn a24_a_failed_first_attempt_is_not_remembered_as_applied(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![fails_first]).state(notes.clone()).start().await;
    let id = bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    bus.publish_message(again(&bus, &id)).await;
    bus.settled().await;
    assert_eq!((notes.len(), bus.handled("fails_first"), bus.duplicates("fails_first")), (2, 1, 1));
}

#[subscribe(idempotent, concurrency = 8)]
async fn slow_once(order: &Ordered, gauge: &Gauge, notes: &Notes) {
    gauge.enter();
    tokio::time::sleep(Duration::from_millis(200)).await;
    notes.add(order.number);
    gauge.leave();
}

#[abe_events::test]
async fn i26_of_concurrent_duplicates_one_runs_and_the_others_wait_and_skip(bus: TestBus) {
    let (notes, gauge) = (Notes::default(), Arc::new(Gauge::default()));
    let bus = bus.handlers(handlers![slow_once]).state(notes.clone()).shared_state(gauge.clone()).start().await;
    let id: Id = "the-one".parse().unwrap();
    for _ in 0..8 {
        bus.runtime().publishing(Ordered::new(1)).id(id.clone()).send().await.unwrap();
    }
    bus.settled().await;
    assert_eq!((notes.len(), gauge.most(), bus.duplicates("slow_once")), (1, 1, 7));
}

#[subscribe(idempotent, concurrency = 4, retry(attempts = 3, min = "300ms", max = "300ms"))]
async fn first_of_them_fails(order: &Ordered, notes: &Notes) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    notes.add(order.number);
    if notes.len() == 1 { Err(Error::msg("rolled back")) } else { Ok(()) }
}

#[abe_events::test]
async fn i26_when_the_running_one_fails_a_waiting_duplicate_is_released_to_run(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![first_of_them_fails]).state(notes.clone()).start().await;
    for _ in 0..2 {
        bus.runtime().publishing(Ordered::new(1)).id("x".parse().unwrap()).send().await.unwrap();
    }
    bus.settled().await;
    assert_eq!((notes.len(), bus.handled("first_of_them_fails"), bus.duplicates("first_of_them_fails")), (2, 1, 1));
}

#[subscribe(idempotent(key = |order| order.user.to_string(), window = "1h"))]
async fn once_per_user(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

#[abe_events::test]
async fn the_key_may_be_an_expression_and_is_forgotten_after_its_window(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![once_per_user]).state(notes.clone()).start().await;
    for number in [1, 17, 33, 2] {
        bus.publish(Ordered::new(number)).await;
    }
    bus.settled().await;
    assert_eq!(notes.all(), ["1", "2"], "1, 17 and 33 are of one user");
    tokio::time::advance(Duration::from_secs(3 * 3600)).await;
    bus.publish(Ordered::new(49)).await;
    bus.settled().await;
    assert_eq!(notes.all(), ["1", "2", "49"]);
}

#[subscribe(batch = 10, max_wait = "10ms", idempotent)]
async fn batch_once(orders: Batch<Ordered>, notes: &Notes) {
    for order in &orders {
        notes.add(order.number);
    }
}

#[abe_events::test]
async fn a_duplicate_within_one_batch_is_skipped(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![batch_once]).state(notes.clone()).start().await;
    bus.duplicate_next(5);
    bus.publish_all((0..5).map(Ordered::new)).await;
    bus.settled().await;
    assert_eq!((notes.len(), bus.duplicates("batch_once")), (5, 5));
    assert!(bus.monitor().balances());
}
