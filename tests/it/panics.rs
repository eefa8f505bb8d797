//! Panics anywhere in user code: counted as failures, the rest undisturbed.

use abe_events::testing::TestBus;
use abe_events::{Result, event, handlers, subscribe};
use serde::{Deserialize, Deserializer};

use super::support::{Notes, Ordered};

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
