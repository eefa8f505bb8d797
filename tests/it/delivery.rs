//! Publish, handle, ack: identity, bytes, and what a handler learns of its message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use abe_events::testing::TestBus;
use abe_events::{Context, Id, Message, Payload, Result, State, Topic, event, handlers, subscribe};

use super::support::{Notes, Ordered};

#[subscribe]
async fn borrowed(order: &Ordered, State(notes): State<Notes>) {
    notes.add(order.number);
}

#[subscribe]
fn shared(order: Arc<Ordered>, notes: &Notes) {
    notes.add(order.number);
}

#[subscribe]
async fn owned(order: Ordered, notes: &Notes) -> Result<()> {
    notes.add(order.number);
    Ok(())
}

#[abe_events::test]
async fn every_handler_of_an_event_gets_every_event_in_order(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![borrowed, shared, owned]).state(notes.clone()).start().await;
    bus.publish_all((0..300).map(Ordered::new)).await;
    for number in 300..400 {
        bus.publish(Arc::new(Ordered::new(number))).await;
    }
    bus.settled().await;
    for handler in ["borrowed", "shared", "owned"] {
        let numbers: Vec<u32> = bus.handled_events::<Ordered>(handler).iter().map(|order| order.number).collect();
        assert_eq!(numbers, (0..400).collect::<Vec<_>>(), "{handler}");
    }
    assert_eq!(notes.len(), 1200);
}

#[test]
fn a_handler_is_still_an_ordinary_function() {
    let notes = Notes::default();
    shared(Arc::new(Ordered::new(1)), &notes);
    assert_eq!(notes.all(), ["1"]);
}

#[event(topic = "it.effect")]
#[derive(Clone)]
struct Effect {
    of: u32,
}

#[subscribe]
async fn cause(order: &Ordered, ctx: &Context, notes: &Notes) -> Result<()> {
    notes.add(format!("{} {} {} {:?}", ctx.id(), ctx.attempt(), ctx.hops(), ctx.key()));
    ctx.publish(Effect { of: order.number }).await?;
    if ctx.attempt() == 1 { Err(abe_events::Error::msg("again")) } else { Ok(()) }
}

#[subscribe]
async fn effect(_: &Effect, ctx: &Context, notes: &Notes) {
    notes.add(format!("{} {:?} {}", ctx.correlation_id(), ctx.causation_id(), ctx.hops()));
}

#[abe_events::test]
async fn i06_identity_stays_over_retries_and_attempts_grow_by_one(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![cause, effect]).state(notes.clone()).start().await;
    let id = bus.publish(Ordered::new(3)).await;
    bus.settled().await;
    let mut all = notes.all();
    all.sort();
    let mut expected = vec![format!("{id} 1 0 Some(\"3\")"), format!("{id} 2 0 Some(\"3\")")];
    // Published by both attempts: the first one's event went out before its failure.
    expected.extend([format!("{id} Some({id}) 1"), format!("{id} Some({id}) 1")]);
    expected.sort();
    assert_eq!(all, expected);
}

#[subscribe(topic = "it.raw", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn raw(message: Message) -> Result<()> {
    assert_eq!(message.headers().get("tenant"), Some("acme"));
    Err(abe_events::Error::msg("keep it"))
}

#[abe_events::test]
async fn i04_bytes_headers_and_identity_arrive_identical_through_retries_and_dead_letters(bus: TestBus) {
    let bus = bus.handlers(handlers![raw]).start().await;
    let mut payloads: Vec<Vec<u8>> = vec![b"".to_vec(), b"\0".to_vec(), (0..=255).collect(), vec![b'x'; 1024 * 1024]];
    payloads.push(br#"{"big": 1000000000000000000000000000001, "a": 1, "a": 2}"#.to_vec());
    payloads.push(vec![0xff, 0xfe, 0x80]);
    let mut headers = abe_events::Headers::new();
    headers.insert("tenant", "acme").unwrap();
    headers.insert("empty", "").unwrap();
    headers.insert("unicode", "naïve ключ").unwrap();
    for (at, payload) in payloads.iter().enumerate() {
        let message = Message::new(Topic::new("it.raw").unwrap(), 1, Payload::from_bytes(payload.clone()))
            .with_id(format!("id-{at}").parse::<Id>().unwrap())
            .with_key(Some("k".into()))
            .with_headers(headers.clone());
        bus.publish_message(message).await;
    }
    bus.settled().await;
    let letters = bus.dead_letters().await;
    assert_eq!(letters.len(), payloads.len());
    for (at, payload) in payloads.iter().enumerate() {
        let letter = letters.iter().find(|letter| letter.message.id().to_string() == format!("id-{at}")).unwrap();
        assert_eq!(&letter.message.payload().to_bytes().unwrap()[..], &payload[..]);
        assert_eq!((letter.message.headers(), letter.message.key(), letter.attempts), (&headers, Some("k"), 2));
    }
}

#[derive(Default)]
struct Seen(AtomicU32);

#[subscribe]
async fn fails_late(order: &Ordered, seen: &Seen) -> Result<()> {
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    if seen.0.fetch_add(1, Ordering::SeqCst) < 3 { Err(abe_events::Error::msg(format!("order {}", order.number))) } else { Ok(()) }
}

#[abe_events::test]
async fn i07_a_message_is_acked_only_after_its_handler_succeeded(bus: TestBus) {
    let bus = bus.handlers(handlers![fails_late]).state(Seen::default()).start().await;
    bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    assert_eq!((bus.failed("fails_late"), bus.handled("fails_late")), (3, 1));
    bus.crash_before_settle("fails_late", 2);
    bus.publish(Ordered::new(2)).await;
    bus.settled().await;
    assert_eq!(bus.handled("fails_late"), 2, "twice lost before it was settled, and handled again");
    assert_eq!(bus.failed("fails_late"), 5);
}

#[event(topic = "it.returned")]
#[derive(Debug, Clone, PartialEq)]
struct Returned(u32);

#[subscribe]
async fn returns_an_event(order: &Ordered) -> Result<Returned> {
    Ok(Returned(order.number))
}

#[subscribe]
async fn returns_several(order: &Ordered) -> (Returned, Effect) {
    (Returned(order.number + 100), Effect { of: order.number })
}

#[abe_events::test]
async fn what_a_handler_returns_is_published_with_its_lineage(bus: TestBus) {
    let bus = bus.handlers(handlers![returns_an_event, returns_several]).start().await;
    let id = bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    let mut numbers: Vec<u32> = bus.published::<Returned>().iter().map(|returned| returned.0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 101]);
    assert_eq!(bus.published::<Effect>()[0].of, 1);
    for message in bus.messages().iter().filter(|message| message.topic().as_str() == "it.returned") {
        assert_eq!((message.correlation_id(), message.causation_id(), message.hops()), (&id, Some(&id), 1));
    }
}

#[abe_events::test]
async fn i44_a_delayed_event_is_never_early(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![borrowed]).state(notes.clone()).start().await;
    let began = tokio::time::Instant::now();
    bus.runtime().publishing(Ordered::new(1)).delay(std::time::Duration::from_secs(3600)).send().await.unwrap();
    bus.publish(Ordered::new(2)).await;
    bus.settled().await;
    assert_eq!(notes.all(), ["2", "1"]);
    let took = began.elapsed().as_secs_f64();
    assert!((3600.0..3601.0).contains(&took), "{took}");
}
