//! I48: the numbers alone show that nothing is lost.

use abe_events::testing::TestBus;
use abe_events::{Error, Outcome, Result, handlers, subscribe};

use super::support::Ordered;

#[subscribe(filter = |order| order.number % 5 != 0, idempotent, concurrency = 4, retry(attempts = 3, min = "1ms", max = "5ms"))]
async fn of_every_kind(order: &Ordered) -> Result<Outcome> {
    match order.number % 7 {
        0 => Err(Error::msg("always")),
        1 => Ok(Outcome::reject("never")),
        2 => panic!("at last"),
        _ => Ok(Outcome::ack()),
    }
}

#[abe_events::test]
async fn i48_published_is_succeeded_and_dead_and_filtered_and_duplicates_and_pending(bus: TestBus) {
    let bus = bus.handlers(handlers![of_every_kind]).start().await;
    bus.duplicate_next(100);
    bus.publish_all((0..1000).map(Ordered::new)).await;
    bus.expect_panics(u64::MAX / 2);
    bus.settled().await;
    let monitor = bus.monitor();
    let numbers = monitor.subscription("of_every_kind").unwrap();
    assert_eq!((numbers.accepted, numbers.pending, numbers.in_flight), (1100, 0, 0));
    assert_eq!(numbers.accepted, numbers.succeeded + numbers.dead + numbers.filtered + numbers.duplicates);
    assert!(numbers.duplicates > 0 && numbers.filtered == 220 && monitor.balances());
    assert_eq!(monitor.topics[0].published, 1000);
    assert_eq!(bus.dead_letters().await.len() as u64, numbers.dead - dead_twice(&bus.monitor()));
    let table = monitor.to_string();
    assert!(table.contains("of_every_kind") && table.contains("total"), "{table}");
}

/// A duplicate of a message that died dies under the same id: one dead letter, counted twice.
fn dead_twice(monitor: &abe_events::runtime::Monitor) -> u64 {
    let numbers = monitor.subscription("of_every_kind").unwrap();
    let dead_numbers = (0..1000u64).filter(|n| n % 5 != 0 && n % 7 <= 2).count() as u64;
    numbers.dead - dead_numbers
}

#[subscribe(retry(attempts = 2, min = "1h", max = "1h"))]
async fn waits_long(_: &Ordered) -> Result<()> {
    Err(Error::msg("later"))
}

#[abe_events::test]
async fn i48_what_is_due_later_is_pending(bus: TestBus) {
    let bus = bus.handlers(handlers![waits_long]).start().await;
    bus.publish_all((0..10).map(Ordered::new)).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let monitor = bus.monitor();
    let numbers = monitor.subscription("waits_long").unwrap();
    assert_eq!((numbers.accepted, numbers.pending, numbers.delayed, numbers.failed), (10, 10, 10, 10));
    assert!(monitor.balances());
    bus.settled().await;
    assert_eq!(bus.dead_letters().await.len(), 10);
}

#[abe_events::test]
async fn what_nobody_subscribes_to_is_counted(bus: TestBus) {
    let bus = bus.handlers(handlers![waits_long]).start().await;
    bus.allow_unhandled::<super::contracts::Nobody>();
    bus.publish(super::contracts::Nobody {}).await;
    assert_eq!((bus.monitor().published, bus.monitor().unrouted), (1, 1));
}
