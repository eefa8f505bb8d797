//! Order per key at any concurrency, retries included; and a key that fails delays no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abe_events::testing::TestBus;
use abe_events::{Error, Result, handlers, subscribe};

use super::support::{Gauge, Notes, Ordered};

/// First successes by key, and how often each number failed.
#[derive(Default)]
struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_key: HashMap<u32, Vec<u32>>,
    failures: HashMap<u32, u32>,
}

#[subscribe(ordered, concurrency = 8, retry(attempts = 5, min = "5ms", max = "20ms"))]
async fn in_order(order: &Ordered, ledger: &Ledger, gauge: &Gauge) -> Result<()> {
    gauge.enter();
    tokio::time::sleep(Duration::from_millis(u64::from(order.number * 7 % 13))).await;
    gauge.leave();
    let mut ledger = ledger.0.lock().unwrap();
    // The head of every key and every 50th number fail twice.
    if order.number < 16 || order.number.is_multiple_of(50) {
        let failures = ledger.failures.entry(order.number).or_default();
        *failures += 1;
        if *failures <= 2 {
            return Err(Error::msg("not yet"));
        }
    }
    ledger.by_key.entry(order.user).or_default().push(order.number);
    Ok(())
}

#[abe_events::test]
async fn i21_order_per_key_holds_under_concurrency_and_retries(bus: TestBus) {
    let (ledger, gauge) = (Arc::new(Ledger::default()), Arc::new(Gauge::default()));
    let bus = bus.handlers(handlers![in_order]).shared_state(ledger.clone()).shared_state(gauge.clone()).start().await;
    bus.publish_all((0..1600).map(Ordered::new)).await;
    bus.settled().await;
    let keys = &ledger.0.lock().unwrap().by_key;
    assert_eq!(keys.len(), 16);
    for (key, numbers) in keys {
        let published: Vec<u32> = (0..100).map(|n| n * 16 + key).collect();
        assert_eq!(numbers, &published, "key {key}");
    }
    assert!(gauge.most() > 4, "keys run beside each other: {}", gauge.most());
}

#[subscribe(ordered, concurrency = 2, retry(attempts = 3, min = "10s", max = "10s"))]
async fn one_key_fails(order: &Ordered, notes: &Notes) -> Result<()> {
    if order.user == 3 {
        return Err(Error::msg("poisoned key"));
    }
    notes.add(order.number);
    Ok(())
}

#[abe_events::test]
async fn i18_a_poisoned_key_delays_no_other(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![one_key_fails]).state(notes.clone()).start().await;
    bus.publish_all((0..64).map(Ordered::new)).await;
    // Nothing is due before ten seconds: what is handled by then was not held up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(notes.len(), 60);
    bus.settled().await;
    let letters = bus.dead_letters().await;
    assert_eq!(letters.len(), 4);
    let numbers: Vec<u32> = letters
        .iter()
        .map(|letter| serde_json::from_slice::<Ordered>(&letter.message.payload().to_bytes().unwrap()).unwrap().number)
        .collect();
    assert_eq!(numbers, [3, 19, 35, 51], "the poisoned key's own events are given up in order");
}

#[subscribe(concurrency = 1)]
async fn single_lane(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

#[abe_events::test]
async fn i18_without_order_a_waiting_retry_delays_nobody(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![single_lane]).state(notes.clone()).start().await;
    bus.fail_next("single_lane", 1, "once");
    bus.publish_all((0..10).map(Ordered::new)).await;
    bus.settled().await;
    assert_eq!(notes.all(), ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"]);
}
