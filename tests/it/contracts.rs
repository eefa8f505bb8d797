//! Versions, unions, and what other systems send.

use abe_events::broker::FailureKind;
use abe_events::testing::{Bus, TestBus};
use abe_events::{Context, Message, Payload, Topic, event, handlers, subscribe};

use super::support::Notes;

/// An event without a subscriber.
#[event(topic = "it.nobody")]
pub(crate) struct Nobody {}

#[event(topic = "it.user", version = "v1")]
#[derive(Clone)]
struct UserV1 {
    name: String,
}

#[event(topic = "it.user", version = "v2", upcast_from = UserV1)]
#[derive(Clone)]
struct UserV2 {
    first: String,
    last: String,
}

#[event(topic = "it.user", version = "v3", upcast_from = UserV2)]
#[derive(Clone)]
struct User {
    full: String,
    initials: String,
}

impl From<UserV1> for UserV2 {
    fn from(old: UserV1) -> Self {
        let (first, last) = old.name.split_once(' ').unwrap_or((&old.name, ""));
        Self { first: first.into(), last: last.into() }
    }
}

impl From<UserV2> for User {
    fn from(old: UserV2) -> Self {
        let initials = [&old.first, &old.last].iter().filter_map(|part| part.chars().next()).collect();
        Self { full: format!("{} {}", old.first, old.last), initials }
    }
}

#[subscribe]
async fn greet(user: &User, ctx: &Context, notes: &Notes) {
    notes.add(format!("v{} {} {}", ctx.version(), user.full, user.initials));
}

async fn send(bus: &Bus, topic: &str, version: u32, json: &str) {
    bus.publish_message(Message::new(Topic::new(topic).unwrap(), version, Payload::from_bytes(json.to_owned()))).await;
}

#[abe_events::test]
async fn i43_old_versions_are_read_through_the_chain_and_newer_ones_never_acked_as_handled(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![greet]).state(notes.clone()).start().await;
    send(&bus, "it.user", 1, r#"{"name": "Ada Lovelace"}"#).await;
    send(&bus, "it.user", 2, r#"{"first": "Alan", "last": "Turing", "unknown": 1}"#).await;
    send(&bus, "it.user", 3, r#"{"full": "Grace Hopper", "initials": "GH"}"#).await;
    bus.publish(UserV1 { name: "Edsger Dijkstra".into() }).await;
    send(&bus, "it.user", 4, r#"{"full": "From Tomorrow", "initials": "FT"}"#).await;
    bus.settled().await;
    assert_eq!(notes.all(), ["v1 Ada Lovelace AL", "v2 Alan Turing AT", "v3 Grace Hopper GH", "v1 Edsger Dijkstra ED"]);
    let letters = bus.dead_letters().await;
    assert_eq!((letters.len(), letters[0].attempts, letters[0].failures[0].kind), (1, 1, FailureKind::Version));
    assert!(letters[0].reason().contains("v4") && letters[0].reason().contains("v3"), "{}", letters[0].reason());
}

#[event(topic = "it.opened")]
#[derive(Clone)]
struct Opened {
    number: u32,
}

#[event(topic = "it.closed")]
#[derive(Clone)]
struct Closed {
    number: u32,
}

#[event]
enum Change {
    Opened(Opened),
    Closed(std::sync::Arc<Closed>),
}

#[subscribe]
async fn follow(change: &Change, notes: &Notes) {
    match change {
        Change::Opened(opened) => notes.add(format!("opened {}", opened.number)),
        Change::Closed(closed) => notes.add(format!("closed {}", closed.number)),
    }
}

#[abe_events::test]
async fn a_union_takes_several_topics_with_types(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![follow]).state(notes.clone()).start().await;
    bus.publish(Opened { number: 1 }).await;
    bus.publish(Closed { number: 1 }).await;
    send(&bus, "it.opened", 1, r#"{"number": 2}"#).await;
    send(&bus, "it.closed", 1, r#"{"number": 2}"#).await;
    bus.settled().await;
    assert_eq!(notes.all(), ["opened 1", "closed 1", "opened 2", "closed 2"]);
}

type Aliased = Opened;

#[subscribe]
async fn by_alias(opened: &Aliased, notes: &Notes) {
    notes.add(opened.number);
}

#[abe_events::test]
async fn a_type_alias_is_as_good_as_the_type(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![by_alias]).state(notes.clone()).start().await;
    bus.publish(Opened { number: 4 }).await;
    bus.settled().await;
    assert_eq!(notes.all(), ["4"]);
}
