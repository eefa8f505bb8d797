//! `#[event]`: descriptors, keys, versions, unions, sensitive fields.

use std::sync::Arc;

use abe_events::{Event, Incoming, Unreadable, data, event};

use crate::script::{json, typed};

/// A customer placed an order.
#[event(topic = "order.created", version = "v3", key = user_id, upcast_from = OrderCreatedV2)]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OrderCreated {
    pub order_id: u64,
    pub user_id: u64,
    pub total: f64,
}

#[event(topic = "order.created", version = 2, upcast_from = OrderCreatedV1, upcast_with = amount_in_euros)]
pub(crate) struct OrderCreatedV2 {
    order_id: u64,
    amount: f64,
}

#[event(topic = "order.created")]
pub(crate) struct OrderCreatedV1 {
    order_id: u64,
    cents: i64,
}

fn amount_in_euros(old: OrderCreatedV1) -> Result<OrderCreatedV2, String> {
    if old.cents < 0 {
        return Err(format!("order {} has a negative amount", old.order_id));
    }
    #[expect(clippy::cast_precision_loss, reason = "amounts of a test")]
    Ok(OrderCreatedV2 { order_id: old.order_id, amount: old.cents as f64 / 100.0 })
}

impl From<OrderCreatedV2> for OrderCreated {
    fn from(old: OrderCreatedV2) -> Self {
        Self { order_id: old.order_id, user_id: 0, total: old.amount }
    }
}

#[event(topic = "ping", key = |ping| format!("{}-{}", ping.0, ping.1))]
#[derive(Clone)]
pub(crate) struct Ping(u8, u8);

#[event(topic = "tick")]
pub(crate) struct Tick;

#[event(topic = "payment.changed")]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum PaymentChanged {
    Authorized { amount: u64 },
    Failed,
}

#[event]
pub(crate) enum Any {
    Ping(Ping),
    Order(Arc<OrderCreated>),
}

#[data]
pub(crate) struct Card {
    #[event(sensitive)]
    number: u64,
    #[event(public)]
    token: u8,
}

#[event(topic = "card.added")]
pub(crate) struct CardAdded {
    card: Card,
    #[event(sensitive)]
    password: u32,
}

#[test]
fn a_descriptor_says_what_the_attribute_said() {
    let descriptor = OrderCreated::DESCRIPTOR;
    assert_eq!((descriptor.topic, descriptor.version, descriptor.name), ("order.created", 3, "OrderCreated"));
    assert_eq!((descriptor.doc, descriptor.has_key, (descriptor.oldest)()), ("A customer placed an order.", true, 1));
    assert!(descriptor.at.file.ends_with("events.rs") && descriptor.at.line > 0);
    assert_eq!((descriptor.at.krate, descriptor.at.module), ("macros", "macros::events"));
    assert!(!Tick::DESCRIPTOR.has_key && Tick.key().is_none());
}

#[test]
fn a_key_is_a_field_or_an_expression() {
    assert_eq!(OrderCreated { order_id: 1, user_id: 42, total: 1.0 }.key().as_deref(), Some("42"));
    assert_eq!(Ping(1, 2).key().as_deref(), Some("1-2"));
}

#[test]
fn older_versions_are_read_through_the_chain() {
    let read = |version, json: &str| OrderCreated::decode(version, json.as_bytes());
    assert_eq!(read(1, r#"{"order_id":7,"cents":250}"#).unwrap(), OrderCreated { order_id: 7, user_id: 0, total: 2.5 });
    assert_eq!(read(2, r#"{"order_id":7,"amount":2.5}"#).unwrap().total, 2.5);
    assert_eq!(read(3, r#"{"order_id":7,"user_id":1,"total":2.5}"#).unwrap().user_id, 1);
    assert_eq!(read(4, "{}").unwrap_err(), Unreadable::Newer { given: 4, known: 3 });
    assert_eq!(
        read(1, r#"{"order_id":7,"cents":-1}"#).unwrap_err(),
        Unreadable::Malformed("upcast from v1 failed: order 7 has a negative amount".into())
    );
    assert_eq!((OrderCreated::DESCRIPTOR.check)(1, br#"{"order_id":7,"cents":250}"#), Ok(()));
}

#[test]
fn an_unknown_version_below_the_oldest_has_no_upcast() {
    #[event(topic = "gap", version = 3)]
    struct Gap;
    assert_eq!(Gap::decode(2, b"null").err(), Some(Unreadable::NoUpcast { given: 2, oldest: 3 }));
}

#[test]
fn errors_say_where_and_not_what() {
    let error = OrderCreated::decode(3, br#"{"order_id":"4111-1111","user_id":1,"total":2.5}"#).unwrap_err().to_string();
    assert!(error.contains("order_id") && error.contains("expected u64") && !error.contains("4111"), "{error}");
}

#[test]
fn sensitive_fields_are_shown_nowhere() {
    let added = CardAdded { card: Card { number: 4111, token: 1 }, password: 99 };
    assert_eq!(format!("{added:?}"), "CardAdded { card: Card { number: [sensitive], token: 1 }, password: [sensitive] }");
    assert_eq!(CardAdded::DESCRIPTOR.sensitive, ["password"]);
    let error = CardAdded::decode(1, br#"{"card":{"number":"4111","token":1},"password":99}"#).unwrap_err().to_string();
    assert_eq!(error, "undecodable payload: JSON of another shape at line 1 column 24");
}

#[test]
fn a_union_takes_the_variant_of_the_topic() {
    assert!(matches!(*Any::open(&typed(Ping(1, 2))).unwrap(), Any::Ping(Ping(1, 2))));
    let order = json("order.created", 1, r#"{"order_id":7,"cents":250}"#);
    assert!(matches!(&*Any::open(&order).unwrap(), Any::Order(order) if order.order_id == 7));
    assert!(matches!(Any::open(&typed(Tick)), Err(Unreadable::OtherTopic(_))));
    assert_eq!(Any::contracts().len(), 2);
}

#[test]
fn an_enum_with_a_topic_is_an_event_itself() {
    let payment = PaymentChanged::decode(1, br#"{"state":"authorized","amount":5}"#).unwrap();
    assert!(matches!(payment, PaymentChanged::Authorized { amount: 5 }));
    assert!(matches!(PaymentChanged::decode(1, br#"{"state":"failed"}"#).unwrap(), PaymentChanged::Failed));
}
