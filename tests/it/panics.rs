//! Panics anywhere in user code: counted as failures, the rest undisturbed.

use abe_events::testing::TestBus;
use abe_events::{Result, event, handlers, subscribe};
use serde::{Deserialize, Deserializer};

use super::support::{Notes, Ordered, builder, until};

#[event(topic = "it.old", version = 1)]
#[derive(Clone)]
struct OldShape {
    number: u32,
}

#[event(topic = "it.old", version = 2, upcast_from = OldShape)]
#[derive(Clone)]
struct NewShape {
    number: u32,
}

impl From<OldShape> for NewShape {
    fn from(old: OldShape) -> Self {
        assert!(old.number != 1, "upcaster");
        Self { number: old.number }
    }
}

#[subscribe(retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn upcasts(new: &NewShape, notes: &Notes) {
    notes.add(new.number);
}

struct PanicsOnDrop;
impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("drop");
    }
}

#[subscribe(timeout = "1s", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn panics_in_drop(order: &Ordered, notes: &Notes) {
    if order.number == 1 {
        let _guard = PanicsOnDrop;
        std::future::pending::<()>().await;
    }
    notes.add(order.number);
}

fn explode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    assert!(number != 1, "decoder");
    Ok(number)
}

#[event(topic = "it.decoded")]
#[derive(Clone)]
struct Decoded {
    #[serde(deserialize_with = "explode")]
    number: u32,
}

#[subscribe(retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn decodes(decoded: &Decoded, notes: &Notes) {
    notes.add(decoded.number);
}

#[event(topic = "it.keyed", key = |event| { assert!(event.number != 1, "key expression"); event.number })]
#[derive(Clone)]
struct Keyed {
    number: u32,
}

#[subscribe]
async fn takes_keyed(keyed: &Keyed, notes: &Notes) {
    notes.add(keyed.number);
}

#[abe_events::test]
async fn i35_a_panic_in_upcaster_decoder_drop_or_key_harms_nothing_else(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![upcasts, panics_in_drop, decodes, takes_keyed]).state(notes.clone()).start().await;
    for number in 1..=3 {
        bus.publish(OldShape { number }).await;
        bus.publish(Ordered::new(number)).await;
        let bytes = format!("{{\"number\": {number}}}");
        let topic = abe_events::Topic::new("it.decoded").unwrap();
        bus.publish_message(abe_events::Message::new(topic, 1, abe_events::Payload::from_bytes(bytes))).await;
        let published = bus.runtime().publish(Keyed { number }).await;
        assert_eq!(published.is_err(), number == 1, "a panicking key is the publisher's error");
    }
    bus.settled().await;
    bus.expect_panics(100);
    let mut all = notes.all();
    all.sort();
    assert_eq!(all, ["2", "2", "2", "2", "3", "3", "3", "3"]);
    let letters = bus.dead_letters().await;
    assert_eq!(letters.len(), 3, "{letters:#?}");
    assert!(bus.monitor().balances(), "{}", bus.monitor());
}

#[subscribe(retry(attempts = 1), concurrency = 4)]
async fn panics_always(order: &Ordered, notes: &Notes) {
    if order.number != u32::MAX {
        panic!("number {}", order.number);
    }
    notes.add("alive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i35_100_000_panics_leak_no_permit_task_or_memory() {
    // The default hook prints every panic; a hundred thousand of them say nothing more than one.
    std::panic::set_hook(Box::new(|_| {}));
    let notes = Notes::default();
    let runtime = builder().handlers(handlers![panics_always]).state(notes.clone()).start().await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = (tasks(), resident_bytes());
    for round in 0..10 {
        runtime.publish_all((0..10_000).map(|n| Ordered::new(round * 10_000 + n))).await.unwrap();
        until("the round is through", || runtime.monitor().total().pending == 0).await;
        runtime.dead_letters().purge(&abe_events::broker::DeadLetterFilter::default()).await.unwrap();
    }
    runtime.publish(Ordered::new(u32::MAX)).await.unwrap();
    until("the subscription still works", || notes.len() == 1).await;
    let monitor = runtime.monitor();
    assert_eq!(monitor.total().panicked, 100_000);
    assert!(monitor.balances() && monitor.total().in_flight == 0);
    assert_eq!(tasks(), before.0);
    let grown = resident_bytes().saturating_sub(before.1);
    assert!(grown < 64 * 1024 * 1024, "resident memory grew by {grown} bytes");
    runtime.stop().await;
    let _ = std::panic::take_hook();
}

/// Resident memory of this process; 0 where the system does not tell.
pub fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
