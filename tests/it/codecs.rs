//! An event of another codec than JSON: what leaves the process is its bytes, with their content type, and comes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use abe_events::broker::{DeadLetter, FailureKind};
use abe_events::handler::HandlerDescriptor;
use abe_events::testing::TestBus;
use abe_events::wire::{self, ReadOptions};
use abe_events::{BoxError, Codec, Context, Error, ErrorKind, Event, Message, Payload, Result, Runtime, Topic, event, handlers, subscribe};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::support::{Notes, builder};

/// Bytes that are neither JSON nor text.
struct Flipped;

impl Codec for Flipped {
    const CONTENT_TYPE: &'static str = "application/vnd.abe.flipped";

    fn encode<T: Serialize>(event: &T) -> Result<Vec<u8>, BoxError> {
        let json = serde_json::to_vec(event)?;
        Ok(std::iter::once(0).chain(json.into_iter().map(|byte| byte ^ 0xff)).collect())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
        let [0, flipped @ ..] = bytes else { return Err("it does not begin with a zero".into()) };
        let json: Vec<u8> = flipped.iter().map(|byte| byte ^ 0xff).collect();
        serde_json::from_slice(&json).map_err(|error| error.to_string().into())
    }
}

/// Text, but no JSON.
struct Toml;

impl Codec for Toml {
    const CONTENT_TYPE: &'static str = "application/toml";

    fn encode<T: Serialize>(event: &T) -> Result<Vec<u8>, BoxError> {
        Ok(toml::to_string(event)?.into_bytes())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(toml::from_str(std::str::from_utf8(bytes)?)?)
    }
}

#[event(topic = "it.measured")]
struct MeasuredAsJson {
    value: u32,
}

#[event(topic = "it.measured", version = 2, key = value, upcast_from = MeasuredAsJson, codec = Flipped)]
#[derive(Debug, PartialEq)]
struct Measured {
    value: u32,
}

impl From<MeasuredAsJson> for Measured {
    fn from(old: MeasuredAsJson) -> Self {
        Self { value: old.value }
    }
}

#[event(topic = "it.configured", codec = Toml)]
#[derive(Debug, PartialEq)]
struct Configured {
    name: String,
    limit: u32,
}

#[event(topic = "it.enrolled", codec = Toml)]
struct Enrolled {
    name: u32,
    #[event(sensitive)]
    password: String,
}

/// A file of a broker and a store, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("abe-events-codecs-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn url(&self, file: &str) -> String {
        format!("sqlite://{}", self.0.join(file).display())
    }

    async fn start(&self, handlers: &[&'static HandlerDescriptor], notes: &Notes) -> Runtime {
        let builder = builder().url(self.url("broker.db")).handlers(handlers).state(notes.clone());
        builder.start().await.unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn described(message: &Message) -> String {
    format!("{} of {} with {} headers", message.version(), message.payload().content_type(), message.headers().len())
}

/// 13 is not to be handled; 1 has an effect, so that an event with a chain is stored too.
#[subscribe(retry(attempts = 1))]
async fn take(event: &Measured, ctx: &Context, notes: &Notes) -> Result<Option<Measured>> {
    match event.value {
        13 if notes.len() < 10 => return Err(Error::permanent("not 13")),
        value => notes.add(format!("{value}: {}", described(ctx.message()))),
    }
    Ok((event.value == 1).then_some(Measured { value: 2 }))
}

#[subscribe(topic = "it.measured")]
async fn raw(message: &Message, notes: &Notes) {
    let bytes = message.payload().to_bytes().unwrap();
    let is_ours = bytes[0] == 0 && std::str::from_utf8(&bytes).is_err();
    notes.add(format!("raw {is_ours}: {}", described(message)));
}

async fn letters(runtime: &Runtime) -> Vec<DeadLetter> {
    runtime.dead_letters().list(&Default::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_another_codec_is_stored_dead_lettered_and_replayed_as_its_bytes() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let runtime = folder.start(handlers![take, raw], &notes).await;
    for value in [1, 13] {
        runtime.publish(Measured { value }).await.unwrap();
    }
    runtime.settled().await;
    runtime.stop().await;
    let mut all = notes.all();
    all.sort();
    let told = "2 of application/vnd.abe.flipped with 0 headers";
    assert_eq!(
        all,
        [format!("1: {told}"), format!("2: {told}"), format!("raw true: {told}"), format!("raw true: {told}"), format!("raw true: {told}")]
    );
    // Another process finds the letter, and its bytes as they were.
    (0..10).for_each(|_| notes.add("x"));
    let runtime = folder.start(handlers![take, raw], &notes).await;
    let letters = letters(&runtime).await;
    assert_eq!((letters.len(), letters[0].failures[0].kind), (1, FailureKind::Permanent));
    let payload = letters[0].message.payload();
    assert_eq!(payload.content_type(), Flipped::CONTENT_TYPE);
    assert_eq!(payload.to_bytes().unwrap(), Flipped::encode(&Measured { value: 13 }).unwrap());
    let shown = runtime.dead_letters().show(letters[0].message.id()).await.unwrap();
    assert!(shown.contains("13 bytes of application/vnd.abe.flipped that are not text"), "{shown}");
    assert_eq!(runtime.dead_letters().replay(&Default::default()).await.unwrap(), 1);
    runtime.settled().await;
    assert_eq!(notes.all().last(), Some(&format!("13: {told}")));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_another_codec_goes_through_the_store_as_well() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let builder = builder().store(folder.url("store.db")).store_first().handlers(handlers![raw]).state(notes.clone());
    let runtime = builder.start().await.unwrap();
    runtime.publish(Measured { value: 7 }).await.unwrap();
    runtime.settled().await;
    assert_eq!(notes.all(), ["raw true: 2 of application/vnd.abe.flipped with 0 headers"]);
    runtime.stop().await;
}

const SOURCE: &str = "/abe-events/shop";

#[test]
fn both_wire_forms_carry_the_bytes_and_say_what_they_are() {
    let (flipped, toml) = (Measured { value: 5 }, Configured { name: "größe".into(), limit: 3 });
    let of = |topic: &str, version, payload| Message::new(Topic::new(topic).unwrap(), version, payload);
    let messages = [
        of("it.measured", 2, Payload::Typed(Arc::new(flipped))),
        of("it.configured", 1, Payload::Typed(Arc::new(toml))),
        // What looks like JSON and is said to be none stays what it is said to be.
        of("it.counted", 1, Payload::of_type("text/csv", "1").unwrap()),
    ];
    for message in messages {
        let bytes = message.payload().to_bytes().unwrap();
        let json = wire::to_cloudevent(&message, SOURCE).unwrap();
        let text = String::from_utf8(json.to_vec()).unwrap();
        let declared = format!(r#""datacontenttype":"{}""#, message.payload().content_type());
        assert!(text.contains(&declared) && text.contains(r#""data_base64":""#) && !text.contains(r#""data":"#), "{text}");
        let envelope = wire::to_envelope(&message, SOURCE).unwrap();
        let attributes = wire::attributes(&message, SOURCE).unwrap();
        let read = [
            wire::from_structured(&json, &ReadOptions::default()).unwrap(),
            wire::from_structured(&envelope, &ReadOptions::default()).unwrap(),
            wire::from_attributes(attributes, bytes.clone(), &ReadOptions::default()).unwrap(),
        ];
        for read in read {
            assert_eq!((read.payload().content_type(), read.headers().len()), (message.payload().content_type(), 0));
            assert_eq!((read.payload().to_bytes().unwrap(), read.id()), (bytes.clone(), message.id()));
            // And once more, as a program that passes it on.
            assert_eq!(wire::to_cloudevent(&read, SOURCE).unwrap(), json);
        }
    }
    assert_eq!((Measured::DESCRIPTOR.content_type, MeasuredAsJson::DESCRIPTOR.content_type), (Flipped::CONTENT_TYPE, "application/json"));
}

#[subscribe]
async fn configured(_: &Configured) {}

#[subscribe]
async fn enrolled(_: &Enrolled) {}

#[abe_events::test]
async fn each_version_is_read_by_its_own_codec_and_what_is_not_readable_is_a_dead_letter(bus: TestBus) {
    let bus = bus.handlers(handlers![take, configured, enrolled]).state(Notes::default()).start().await;
    let message = |topic: &str, version, bytes: Vec<u8>| Message::new(Topic::new(topic).unwrap(), version, Payload::from_bytes(bytes));
    let toml = |text: &str| text.as_bytes().to_vec();
    bus.publish(MeasuredAsJson { value: 4 }).await;
    bus.publish_message(message("it.measured", 1, br#"{"value":5}"#.to_vec())).await;
    bus.publish_message(message("it.measured", 2, Flipped::encode(&Measured { value: 6 }).unwrap())).await;
    bus.publish_message(message("it.configured", 1, toml("name = \"a\"\nlimit = 1"))).await;
    bus.settled().await;
    assert_eq!((bus.handled("take"), bus.handled("configured")), (3, 1));
    assert_eq!(bus.handled_events::<Measured>("take").iter().map(|event| event.value).collect::<Vec<_>>(), [4, 5, 6]);
    // JSON where the version says otherwise; a value of another type; and the same of an event with a secret.
    bus.publish_message(message("it.measured", 2, br#"{"value":5}"#.to_vec())).await;
    bus.publish_message(message("it.configured", 1, toml("name = \"a\"\nlimit = \"hunter2\""))).await;
    bus.publish_message(message("it.enrolled", 1, toml("name = \"hunter2\"\npassword = \"hunter2\""))).await;
    bus.settled().await;
    let letters = bus.dead_letters().await;
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason()).collect();
    assert!(letters.iter().all(|letter| letter.failures[0].kind == FailureKind::Undecodable && letter.attempts == 1), "{reasons:?}");
    let said = "undecodable payload: not readable as application/";
    assert_eq!(
        (letters.len(), reasons[0]),
        (3, "undecodable payload: not readable as application/vnd.abe.flipped: it does not begin with a zero")
    );
    assert!(reasons[1].starts_with(said), "{reasons:?}");
    assert_eq!(reasons[2], "undecodable payload: not readable as application/toml");
}

/// Fields without names, in brackets: looks like JSON, and is said to be something else.
struct Positional;

impl Codec for Positional {
    const CONTENT_TYPE: &'static str = "application/x-positional";

    fn encode<T: Serialize>(event: &T) -> Result<Vec<u8>, BoxError> {
        let value = serde_json::to_value(event)?;
        let fields: Vec<_> = value.as_object().into_iter().flat_map(|fields| fields.values()).collect();
        Ok(serde_json::to_vec(&fields)?)
    }

    fn decode<T: DeserializeOwned>(_: &[u8]) -> Result<T, BoxError> {
        Err("hunter2 was not expected".into())
    }
}

#[event(topic = "it.secretly", codec = Positional)]
struct Secretly {
    #[event(sensitive)]
    password: String,
}

#[subscribe]
async fn secretly(_: &Secretly) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i54_a_secret_is_hidden_in_whatever_form_it_is_written() {
    let folder = Folder::new();
    let runtime = folder.start(handlers![secretly], &Notes::default()).await;
    let id = runtime.publish(Secretly { password: "hunter2".into() }).await.unwrap();
    runtime.settled().await;
    assert_eq!(letters(&runtime).await[0].message.payload().to_bytes().unwrap(), r#"["hunter2"]"#);
    let shown = runtime.dead_letters().show(&id).await.unwrap();
    assert!(!shown.contains("hunter2") && shown.contains("hidden because it.secretly has sensitive fields"), "{shown}");
    runtime.stop().await;
}

/// Writes nothing.
struct Mute;

impl Codec for Mute {
    const CONTENT_TYPE: &'static str = "application/x-mute";

    fn encode<T: Serialize>(_: &T) -> Result<Vec<u8>, BoxError> {
        Err("it never writes".into())
    }

    fn decode<T: DeserializeOwned>(_: &[u8]) -> Result<T, BoxError> {
        Err("it never reads".into())
    }
}

#[event(topic = "it.muted", codec = Mute)]
struct Muted;

#[subscribe]
async fn muted(_: &Muted, notes: &Notes) {
    notes.add("handled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_the_process_no_codec_is_asked_and_where_bytes_are_stored_its_refusal_is_the_publishers() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let runtime = builder().handlers(handlers![muted]).state(notes.clone()).start().await.unwrap();
    runtime.publish(Muted).await.unwrap();
    runtime.settled().await;
    assert_eq!(notes.all(), ["handled"]);
    runtime.stop().await;
    let runtime = folder.start(handlers![muted], &notes).await;
    let error = runtime.publish(Muted).await.unwrap_err();
    assert!(error.to_string().contains("Muted cannot be written as application/x-mute"), "{error}");
    assert_ne!(error.kind(), ErrorKind::Unknown);
    runtime.stop().await;
}
