//! Filters: acked, counted, and a panicking one is a failure.

use abe_events::testing::TestBus;
use abe_events::{Message, Payload, Topic, handlers, subscribe};

use super::support::{Notes, Ordered};

#[subscribe(filter = |order| order.number > 10)]
async fn large(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

fn even(order: &Ordered) -> bool {
    order.number.is_multiple_of(2)
}

#[subscribe(filter = even)]
async fn only_even(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

#[abe_events::test]
async fn i34_filtered_is_acked_and_counted(bus: TestBus) {
    let bus = bus.handlers(handlers![large, only_even]).state(Notes::default()).start().await;
    bus.publish_all((0..20).map(Ordered::new)).await;
    bus.settled().await;
    assert_eq!((bus.handled("large"), bus.filtered("large")), (9, 11));
    assert_eq!((bus.handled("only_even"), bus.filtered("only_even")), (10, 10));
    assert!(bus.monitor().balances());
}

#[subscribe(filter = |order| { assert!(order.number != 3, "three"); true }, retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn picky(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

#[abe_events::test]
async fn i34_a_panicking_filter_is_a_failure_and_not_a_skip(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![picky]).state(notes.clone()).start().await;
    bus.publish_all((1..=5).map(Ordered::new)).await;
    bus.settled().await;
    bus.expect_panics(2);
    assert_eq!(notes.all(), ["1", "2", "4", "5"]);
    let letters = bus.dead_letters().await;
    assert!(letters.len() == 1 && letters[0].reason().contains("three"), "{letters:?}");
}

#[subscribe(topic = "it.>", headers("kind" = ["a", "b"], !"test", "tenant"))]
async fn by_headers(message: &Message, notes: &Notes) {
    notes.add(message.headers().get("kind").unwrap());
}

#[subscribe(topic = "it.*", filter_meta = |meta| meta.message().key() == Some("wanted"))]
async fn by_meta(message: &Message, notes: &Notes) {
    notes.add(message.key().unwrap());
}

#[abe_events::test]
async fn rules_on_headers_and_meta_decide_before_the_payload_is_read(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![by_headers, by_meta]).state(notes.clone()).start().await;
    let send = async |headers: &[(&str, &str)], key: &str| {
        let mut all = abe_events::Headers::new();
        for (name, value) in headers {
            all.insert(name, value).unwrap();
        }
        let message = Message::new(Topic::new("it.anything").unwrap(), 1, Payload::from_bytes("not json"));
        bus.publish_message(message.with_headers(all).with_key(Some(key.into()))).await;
    };
    send(&[("kind", "a"), ("tenant", "t")], "wanted").await;
    send(&[("kind", "c"), ("tenant", "t")], "").await;
    send(&[("kind", "b"), ("tenant", "t"), ("test", "1")], "").await;
    send(&[("kind", "b")], "").await;
    bus.settled().await;
    assert_eq!((bus.handled("by_headers"), bus.filtered("by_headers")), (1, 3));
    assert_eq!((bus.handled("by_meta"), bus.filtered("by_meta")), (1, 3));
}
