//! Several lanes: who takes long holds up nobody whom another lane could take.

use std::sync::Arc;
use std::time::Duration;

use abe_events::testing::TestBus;
use abe_events::{Batch, handlers, subscribe};
use tokio::sync::Semaphore;

use super::support::{Notes, Ordered};

/// Several, so that at least one of them is not the last of what its lane took.
const SLOW: [u32; 4] = [200, 207, 215, 222];
const ALL: u32 = 400;

async fn work(order: &Ordered, notes: &Notes, door: &Semaphore) {
    if SLOW.contains(&order.number) {
        let _ = door.acquire().await;
    }
    notes.add(order.number);
}

#[subscribe(concurrency = 5, timeout = "none")]
async fn some_slow(order: &Ordered, notes: &Notes, door: &Semaphore) {
    work(order, notes, door).await;
}

#[subscribe(concurrency = 5, timeout = "none", idempotent)]
async fn some_slow_once(order: &Ordered, notes: &Notes, door: &Semaphore) {
    work(order, notes, door).await;
}

#[subscribe(concurrency = 5, timeout = "none", ordered)]
async fn some_slow_in_order(order: &Ordered, notes: &Notes, door: &Semaphore) {
    work(order, notes, door).await;
}

/// Publishes all, expects so many to be handled while the slow ones are not, and each once in the end.
async fn runs(bus: TestBus, handler: &'static abe_events::handler::HandlerDescriptor, meanwhile: usize) -> Vec<u32> {
    let (notes, door) = (Notes::default(), Arc::new(Semaphore::new(0)));
    let bus = bus.handlers([handler]).state(notes.clone()).shared_state(door.clone()).start().await;
    bus.publish_all((0..ALL).map(Ordered::new)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(notes.len(), meanwhile, "handled while some handlers were held");
    door.add_permits(SLOW.len());
    bus.settled().await;
    let numbers: Vec<u32> = notes.all().iter().filter_map(|note| note.parse().ok()).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..ALL), "each is handled once");
    numbers
}

#[abe_events::test]
async fn what_waits_behind_a_slow_one_is_handed_on(bus: TestBus) {
    runs(bus, handlers![some_slow][0], 396).await;
}

#[abe_events::test]
async fn what_is_handed_on_can_be_reserved_again(bus: TestBus) {
    runs(bus, handlers![some_slow_once][0], 396).await;
}

#[abe_events::test]
async fn what_is_handed_on_keeps_the_order_of_its_key(bus: TestBus) {
    // Four of 16 keys wait, from 13, 13, 12 and 12 events before their ends on: fewer than the queue has room for.
    let numbers = runs(bus, handlers![some_slow_in_order][0], 350).await;
    for key in 0..16 {
        assert!(numbers.iter().filter(|number| *number % 16 == key).is_sorted(), "key {key}");
    }
}

#[subscribe(batch = 2, max_wait = "10ms", concurrency = 2, timeout = "none")]
async fn some_slow_batches(orders: Batch<Ordered>, notes: &Notes, door: &Semaphore) {
    for order in &orders {
        work(order, notes, door).await;
    }
}

/// A lane that runs a batch which was not filled still asks for more, and is given it.
#[abe_events::test]
async fn what_comes_to_a_lane_whose_batch_is_slow_is_handed_on(bus: TestBus) {
    let (notes, door) = (Notes::default(), Arc::new(Semaphore::new(0)));
    let bus = bus.handlers(handlers![some_slow_batches]).state(notes.clone()).shared_state(door.clone()).start().await;
    for number in [SLOW[0], 1, 2, 3, 4] {
        bus.publish(Ordered::new(number)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut all = notes.all();
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4"], "handled while one batch was held");
    door.add_permits(1);
    bus.settled().await;
}
