//! Hops, sizes, hostile names and headers.

use abe_events::broker::FailureKind;
use abe_events::testing::TestBus;
use abe_events::{Context, ErrorKind, Headers, Message, Name, Payload, Result, Topic, TopicPattern, event, handlers, subscribe};

#[event(topic = "it.ping")]
#[derive(Clone)]
struct Ping {
    n: u32,
}

#[event(topic = "it.pong")]
#[derive(Clone)]
struct Pong {
    n: u32,
}

#[subscribe]
async fn ping(event: &Ping, ctx: &Context) -> Result<()> {
    ctx.publish(Pong { n: event.n + 1 }).await?;
    Ok(())
}

#[subscribe]
async fn pong(event: &Pong) -> Ping {
    Ping { n: event.n + 1 }
}

#[abe_events::test]
async fn i42_a_chain_deeper_than_max_hops_ends_in_dead_letters_with_its_path(bus: TestBus) {
    let bus = bus.configure(|builder| builder.max_hops(9)).handlers(handlers![ping, pong]).start().await;
    let id = bus.publish(Ping { n: 0 }).await;
    bus.settled().await;
    assert_eq!(bus.handled("ping") + bus.handled("pong"), 10);
    let letters = bus.dead_letters().await;
    assert_eq!((letters.len(), letters[0].failures[0].kind), (1, FailureKind::HopLimit));
    assert!(letters[0].reason().contains("it.ping → it.pong → it.ping"), "{}", letters[0].reason());
    assert_eq!((letters[0].message.correlation_id(), letters[0].message.hops()), (&id, 10));
}

#[abe_events::test]
async fn i53_sizes_hold_at_publish_and_receive(bus: TestBus) {
    let bus = bus.handlers(handlers![raw]).start().await;
    let large = Message::new(Topic::new("it.large").unwrap(), 1, Payload::from_bytes(vec![b' '; 1024 * 1024 + 1]));
    let error = bus.runtime().publish_message(large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("1048577") && error.to_string().contains("1048576"), "{error}");
    let mut headers = Headers::new();
    for n in 0..64 {
        headers.insert(&format!("h{n}"), "v").unwrap();
    }
    assert_eq!(headers.insert("one-more", "v").unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(Headers::new().insert("big", &"v".repeat(17 * 1024)).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[subscribe(topic = "it.large")]
async fn raw(_: &Message) {}

#[test]
fn i51_names_from_input_are_validated_once_into_typed_values() {
    let long = "a.".repeat(120);
    let hostile = [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        " ",
        "a b",
        "a\tb",
        "a\nb",
        "a\0b",
        "$JS.API.STREAM.DELETE.ORDERS",
        "_INBOX.x",
        "_R_.x",
        "a.*",
        "a.>",
        "*",
        ">",
        "ключ",
        "a/b",
        "a:b",
        "a'b",
        "a\"b",
        "a;DROP TABLE x",
        "{{a}}",
        "%s",
        "\u{202e}a",
        "а",
        &long,
    ];
    for name in hostile {
        assert_eq!(Topic::new(name).unwrap_err().kind(), ErrorKind::InvalidName, "{name:?}");
    }
    for name in ["a..*", "*a", "a*", ">.a", "a.>.b", "$SYS.>", "a >"] {
        assert!(TopicPattern::new(name).is_err(), "{name:?}");
    }
    assert_eq!(Name::new("my_service::orders::bill").unwrap().as_str(), "my_service.orders.bill");
    let error = Topic::new(&"x".repeat(5000)).unwrap_err().to_string();
    assert!(error.len() < 300, "an error does not repeat a hostile name whole: {error}");
}

#[test]
fn i52_user_headers_cannot_set_what_brokers_or_the_framework_act_on() {
    let mut headers = Headers::new();
    for name in [
        "cc",
        "bcc",
        "x-death",
        "x-delay",
        "nats-msg-id",
        "nats-rollup",
        "ce-id",
        "ce_id",
        "abe-hops",
        "traceparent",
        "content-type",
        "$x",
        "_x",
    ] {
        assert_eq!(headers.insert(name, "v").unwrap_err().kind(), ErrorKind::InvalidName, "{name}");
    }
    for (name, value) in [("", "v"), ("Upper", "v"), ("sp ace", "v"), ("a", "line\nbreak"), ("a", "nul\0"), ("a:b", "v")] {
        assert!(headers.insert(name, value).is_err(), "{name:?} {value:?}");
    }
    assert!(headers.is_empty());
}

#[abe_events::test]
async fn i50_hostile_payloads_end_in_dead_letters_and_the_subscription_lives(bus: TestBus) {
    let bus = bus.handlers(handlers![ping, pong]).configure(|builder| builder.max_hops(0)).start().await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let hostile: Vec<Vec<u8>> = vec![
        deep.into_bytes(),
        br#"{"n": 1, "n": 2}"#.to_vec(),
        br#"{"n": 1e999}"#.to_vec(),
        br#"{"n": -1}"#.to_vec(),
        br#"{"n": 99999999999999999999999999}"#.to_vec(),
        b"\xff\xfe".to_vec(),
        b"{\"n\": \"\\u0000\"}".to_vec(),
        b"\xef\xbb\xbf{\"n\": 1}".to_vec(),
        b"null".to_vec(),
        vec![b'{'; 1_000_000],
    ];
    for payload in &hostile {
        bus.publish_message(Message::new(Topic::new("it.pong").unwrap(), 1, Payload::from_bytes(payload.clone()))).await;
    }
    bus.publish(Pong { n: 5 }).await;
    bus.settled().await;
    assert_eq!(bus.handled("pong"), 1);
    let letters = bus.dead_letters().await;
    let undecodable = letters.iter().filter(|letter| letter.failures[0].kind == FailureKind::Undecodable).count();
    assert_eq!(undecodable, hostile.len());
    assert!(letters.iter().all(|letter| letter.reason().len() < 3000));
}
