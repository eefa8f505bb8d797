//! I54: sensitive fields never reach logs, `Debug`, errors or what is shown of dead letters.

use abe_events::testing::TestBus;
use abe_events::{Error, Message, Payload, Result, Topic, event, handlers, subscribe};

#[event(topic = "it.signup")]
#[derive(Clone)]
struct SignUp {
    name: String,
    #[event(sensitive)]
    password: String,
    #[event(sensitive)]
    pin: u32,
}

#[subscribe(retry(attempts = 1))]
async fn sign_up(_: &SignUp) -> Result<()> {
    Err(Error::msg("mail server down"))
}

#[abe_events::test]
async fn i54_sensitive_fields_are_shown_nowhere(bus: TestBus) {
    let bus = bus.handlers(handlers![sign_up]).start().await;
    let event = SignUp { name: "ada".into(), password: "hunter2".into(), pin: 4711 };
    let debug = format!("{event:?}");
    assert!(debug.contains("ada") && !debug.contains("hunter2") && !debug.contains("4711"), "{debug}");
    let mut ids = vec![bus.publish(event).await];
    for json in [
        r#"{"name": "x", "password": "hunter2", "pin": "hunter2"}"#,
        r#"{"password": "hunter2"}"#,
        r#"{"name": "x", "password": "hunter2", "hunter2"#,
    ] {
        ids.push(bus.publish_message(Message::new(Topic::new("it.signup").unwrap(), 1, Payload::from_bytes(json))).await);
    }
    bus.settled().await;
    let letters = bus.dead_letters().await;
    assert_eq!(letters.len(), 4);
    let mut texts: Vec<String> = letters.iter().map(|letter| format!("{letter:?} {}", letter.reason())).collect();
    for id in &ids {
        texts.push(bus.runtime().dead_letters().show(id).await.unwrap());
    }
    for text in &texts {
        assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
    }
    assert!(texts.iter().any(|text| text.contains("[sensitive]") && text.contains("ada")), "{texts:#?}");
    let kept = letters.iter().any(|letter| letter.message.payload().to_bytes().unwrap().ends_with(br#""hunter2", "hunter2"#));
    assert!(kept, "the stored bytes are untouched");
}
