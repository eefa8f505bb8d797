//! Messages come back as they were, from every form; hostile bytes give errors, never a panic.

use proptest::prelude::*;

use super::hostile::REFUSED;
use super::*;
use crate::{Headers, Lineage, Payload};
use std::time::{Duration, UNIX_EPOCH};

/// Payloads that something on the way would like to change.
fn payloads() -> Vec<Vec<u8>> {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n)).into_bytes();
    let mut all: Vec<Vec<u8>> = [
        &b""[..],
        b"null",
        b"{}",
        b"\0",
        b"\"\\u0000\"",
        b"\xff\xfe",
        b"\"\xff\"",
        b" {\"a\": 1} ",
        b"\n",
        b"{\"a\": 1,\"a\": 2}",
        b"{ \"b\" :1.0e2, \"a\":1.50,\t\"c\":[ ] }",
        b"{\"n\":1000000000000000000000000000000}",
        b"123456789012345678901234567890.123456789012345678901234567890",
        b"1e99999",
        b"-0",
        b"\"\\ud800\"",
        b"\"\\/\\u00e9\xc3\xa9\"",
        b"\"a string\"",
        b"true",
        b"not json",
        b"{\"a\":1}}",
        b"{\"a\":1}{\"a\":2}",
        b"\xef\xbb\xbf{}",
        b"{\"specversion\":\"1.0\",\"id\":\"x\",\"type\":\"y\"}",
        b"\"\xe2\x80\xa8\"",
    ]
    .iter()
    .map(|bytes| bytes.to_vec())
    .collect();
    all.extend([deep(126), deep(127), deep(128), deep(10_000), vec![b'x'; 100_000], (0..=255).collect()]);
    all
}

fn message(payload: impl Into<Bytes>) -> Message {
    Message::new(Topic::new("order.created").unwrap(), 2, Payload::from_bytes(payload))
}

fn options() -> ReadOptions {
    ReadOptions::default()
}

/// What must not change on the way.
#[track_caller]
fn assert_same(read: &Message, sent: &Message) {
    assert_eq!((read.id(), read.topic(), read.version(), read.key()), (sent.id(), sent.topic(), sent.version(), sent.key()));
    assert_eq!((read.time_ms(), read.hops(), read.headers()), (sent.time_ms(), sent.hops(), sent.headers()));
    assert_eq!((read.correlation_id(), read.causation_id()), (sent.correlation_id(), sent.causation_id()));
    assert_eq!(read.lineage().map(|lineage| lineage.path()), sent.lineage().map(|lineage| lineage.path()));
    assert_eq!(read.payload().to_bytes().unwrap(), sent.payload().to_bytes().unwrap());
    // Only the structured form says of what is no JSON, and was said to be, that it is bytes.
    let (is, was) = (read.payload().content_type(), sent.payload().content_type());
    assert!(is == was || (is, was) == ("application/octet-stream", "application/json"), "{is} was {was}");
}

#[track_caller]
fn assert_round_trips(sent: &Message) {
    let json = to_cloudevent(sent, "/abe-events/shop").unwrap();
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
    assert_same(&from_structured(&json, &options()).unwrap(), sent);
    let json = to_envelope(sent, "/abe-events/shop").unwrap();
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
    assert_same(&from_structured(&json, &options()).unwrap(), sent);
    let list = attributes(sent, "/abe-events/shop").unwrap();
    assert_same(&from_attributes(list.clone(), sent.payload().to_bytes().unwrap(), &options()).unwrap(), sent);
    let lines: Vec<(String, String)> =
        list.iter().map(|(name, value)| (name.to_string(), encode_header_value(value).into_owned())).collect();
    let back = lines.iter().map(|(name, value)| (name, decode_header_value(value).unwrap()));
    assert_same(&from_attributes(back, sent.payload().to_bytes().unwrap(), &options()).unwrap(), sent);
}

#[test]
fn every_payload_comes_back_to_the_byte() {
    for payload in payloads() {
        assert_round_trips(&message(payload));
    }
}

#[test]
fn a_cloudevent_is_what_the_specification_says() {
    let cause = message("{}").with_id("c1".parse().unwrap());
    let mut headers = Headers::new();
    headers.insert("tenant", "a\"b").unwrap();
    headers.insert_foreign("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let sent = message(r#"{"n": 1.50}"#)
        .with_id("e1".parse().unwrap())
        .with_time(UNIX_EPOCH + Duration::from_millis(1_795_354_800_123))
        .with_key(Some("7".into()))
        .with_lineage(Some(Lineage::of_effect(&cause)))
        .with_headers(headers);
    let json = to_cloudevent(&sent, &source_of(&Name::new("shop").unwrap())).unwrap();
    assert_eq!(
        std::str::from_utf8(&json).unwrap(),
        concat!(
            r#"{"specversion":"1.0","id":"e1","source":"/abe-events/shop","type":"order.created","time":"2026-11-22T13:40:00.123Z","#,
            r#""datacontenttype":"application/json","dataschema":"urn:abe-events:order.created:v2","abeversion":2,"partitionkey":"7","#,
            r#""correlationid":"c1","causationid":"c1","abehops":1,"abepath":"order.created","#,
            r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","#,
            r#""abeheaders":"{\"tenant\":\"a\\\"b\",\"traceparent\":null}","data":{"n": 1.50}}"#
        )
    );
    assert_round_trips(&sent);
    let envelope = to_envelope(&sent, "/abe-events/shop").unwrap();
    assert_eq!(
        std::str::from_utf8(&envelope).unwrap(),
        concat!(
            r#"{"version":"v2","type":"order.created","data":{"n": 1.50},"meta":{"timestamp":"2026-11-22T13:40:00.123Z","#,
            r#""correlation_id":"c1","source":"/abe-events/shop","id":"e1","causation_id":"c1","hops":1,"path":"order.created","key":"7","#,
            r#""headers":{"tenant":"a\"b","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}}"#
        )
    );
    let text = to_cloudevent(&message(&b"\xff"[..]), "s").unwrap();
    assert!(std::str::from_utf8(&text).unwrap().contains(r#""datacontenttype":"application/octet-stream""#));
}

/// The example of <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#32-examples>, its types made topics.
#[test]
fn foreign_cloudevents_are_read_and_passed_on_unchanged() {
    let json = Bytes::from_static(
        br#"{ "specversion" : "1.0", "type" : "com.example.someevent", "source" : "/mycontext", "subject": null,
        "id" : "C234-1234-1234", "time" : "2018-04-05T17:31:00Z", "comexampleextension1" : "value", "comexampleothervalue" : 5,
        "datacontenttype" : "application/vnd.apache.thrift.binary", "Nested": {"a": 1}, "data_base64" : "ZGF0YQ==" }"#,
    );
    let read = from_structured(&json, &options()).unwrap();
    assert_eq!(
        (read.id().to_string().as_str(), read.topic().as_str(), read.version(), read.time_ms()),
        ("C234-1234-1234", "com.example.someevent", 1, 1_522_949_460_000)
    );
    assert_eq!((read.lineage(), read.key()), (None, None));
    assert_eq!(read.payload().to_bytes().unwrap(), "data");
    let headers: Vec<(&str, &str)> = read.headers().iter().collect();
    let expected = [("ce-source", "/mycontext"), ("ce-comexampleextension1", "value"), ("ce-comexampleothervalue", "5")];
    assert_eq!((headers.as_slice(), read.payload().content_type()), (&expected[..], "application/vnd.apache.thrift.binary"));
    assert_round_trips(&read);
    let again = String::from_utf8(to_cloudevent(&read, "/abe-events/shop").unwrap().to_vec()).unwrap();
    for member in
        [r#""source":"/mycontext""#, r#""comexampleothervalue":"5""#, r#""datacontenttype":"application/vnd.apache.thrift.binary""#]
    {
        assert!(again.contains(member), "{again}");
    }
    let xml = br#"{"specversion":"1.0","type":"t","source":"s","id":"1","datacontenttype":"application/xml","data":"<a b=\"\u00e9\"/>"}"#;
    assert_eq!(from_structured(&Bytes::from_static(xml), &options()).unwrap().payload().to_bytes().unwrap(), "<a b=\"é\"/>");
    let text = br#"{"specversion":"1.0","type":"t","source":"s","id":"1","data":"a"}"#;
    assert_eq!(from_structured(&Bytes::from_static(text), &options()).unwrap().payload().to_bytes().unwrap(), "\"a\"");
}

#[test]
fn the_envelope_of_abe_is_read_with_what_the_broker_knows() {
    let json = Bytes::from_static(
        br#"{"version":"1.0","type":"user.registered","data":{"id":12345678901234567890123},
        "meta":{"timestamp":"2024-01-02T03:04:05.678901234+08:00","correlation_id":"req-1","source":"user-service"}}"#,
    );
    let id: Id = "broker-7".parse().unwrap();
    let read = from_structured(&json, &ReadOptions { id: Some(id.clone()), ..options() }).unwrap();
    assert_eq!((read.id(), read.version(), read.time_ms(), read.hops()), (&id, 1, 1_704_135_845_678, 0));
    assert_eq!((read.correlation_id().to_string().as_str(), read.headers().get("ce-source")), ("req-1", Some("user-service")));
    assert_eq!(read.payload().to_bytes().unwrap(), r#"{"id":12345678901234567890123}"#);
    assert_round_trips(&read);
    for (stamp, ms) in
        [("1704135845", 1_704_135_845_000), ("1704135845678", 1_704_135_845_678), ("\"\"", 9), ("\"0001-01-01T00:00:00Z\"", 9), ("null", 9)]
    {
        let json = format!(r#"{{"type":"a","data":1,"meta":{{"timestamp":{stamp},"correlation_id":""}}}}"#);
        let options = ReadOptions { time: Some(UNIX_EPOCH + Duration::from_millis(9)), ..options() };
        assert_eq!(from_structured(&json.into(), &options).unwrap().time_ms(), ms, "{stamp}");
    }
}

#[test]
fn a_message_without_attributes_takes_what_the_broker_knows() {
    let known = ReadOptions { id: Some(Id::new()), topic: Some(Topic::new("a.b").unwrap()), ..options() };
    let read = from_attributes([] as [(&str, &str); 0], "{}".into(), &known).unwrap();
    assert_eq!((Some(read.id()), read.topic().as_str(), read.version()), (known.id.as_ref(), "a.b", 1));
    assert_eq!(Some(read.time_ms()), read.id().time_ms(), "the time is the id's, on every reading");
    assert_eq!(from_attributes([("id", "1")], "".into(), &options()).unwrap_err().kind(), ErrorKind::Decode);
    let schema = from_attributes([("type", "a"), ("dataschema", "urn:abe-events:a:v7")], "".into(), &options()).unwrap();
    assert_eq!((schema.version(), schema.headers().len()), (7, 0));
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    let small = ReadOptions { payload_bytes_max: 10, ..options() };
    let kind = |bytes: Bytes| from_structured(&bytes, &small).map(drop).map_err(|error| error.kind());
    for (size, expected) in [(9, Ok(())), (10, Ok(())), (11, Err(ErrorKind::TooLarge))] {
        for payload in [vec![b'1'; size], vec![0xff; size]] {
            let sent = message(payload.clone());
            assert_eq!(kind(to_cloudevent(&sent, "s").unwrap()), expected, "{size}");
            assert_eq!(kind(to_envelope(&sent, "s").unwrap()), expected, "{size}");
            let list = attributes(&sent, "s").unwrap();
            assert_eq!(from_attributes(list, payload.into(), &small).map(drop).map_err(|error| error.kind()), expected);
        }
    }
    assert_eq!(kind(vec![b' '; 400_000].into()), Err(ErrorKind::TooLarge));
    let large = |bytes: usize| message("1").with_key(Some("k".repeat(bytes).into()));
    assert_round_trips(&large(60_000));
    assert_eq!(attributes(&large(66_000), "s").unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(to_envelope(&large(66_000), "s").unwrap_err().kind(), ErrorKind::TooLarge);
    let late = message("1").with_time(UNIX_EPOCH + Duration::from_millis(time::MS_MAX + 1));
    assert_eq!(to_cloudevent(&late, "s").unwrap_err().kind(), ErrorKind::Encode);
    let many = (0..65).map(|n| format!(r#""x{n}":"1","#)).collect::<String>();
    assert_eq!(
        from_structured(&format!(r#"{{{many}"specversion":"1.0","type":"t","id":"1"}}"#).into(), &options()).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
}

#[test]
fn a_long_chain_keeps_the_end_of_its_path() {
    let mut sent = message("{}");
    for n in 0..100 {
        sent =
            Message::new(Topic::new(&format!("t{n}")).unwrap(), 1, Payload::from_bytes("{}")).with_lineage(Some(Lineage::of_effect(&sent)));
    }
    let read = from_structured(&to_cloudevent(&sent, "s").unwrap(), &options()).unwrap();
    assert_eq!((read.hops(), read.lineage().unwrap().path().len(), read.lineage().unwrap().path()[63].as_str()), (100, 64, "t98"));
}

#[test]
fn errors_do_not_show_the_payload() {
    for bytes in [
        r#""hunter2""#,
        r#"["hunter2"]"#,
        r#"{"specversion":"1.0","id":"1","type":"t","data":"hunter2","data":1}"#,
        r#"{"password":"hunter2"}"#,
        "hunter2",
    ] {
        let error = from_structured(&Bytes::from(bytes), &options()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn hostile_envelopes_are_refused() {
    assert!(REFUSED.len() >= 100, "{}", REFUSED.len());
    for text in REFUSED {
        let error = from_structured(&Bytes::from_static(text.as_bytes()), &options()).map(|read| format!("{read:?}")).expect_err(text);
        assert!(matches!(error.kind(), ErrorKind::Decode | ErrorKind::InvalidName), "{text}: {error}");
        assert!(!error.to_string().contains(['\n', '\r', '\0']), "{error}");
    }
    let deep = |n: usize| format!(r#"{{"specversion":"1.0","id":"1","type":"t","data":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    assert!(from_structured(&deep(127).into(), &options()).is_ok());
    for n in [128, 1_000, 200_000] {
        assert_eq!(from_structured(&deep(n).into(), &options()).unwrap_err().kind(), ErrorKind::Decode);
    }
    for bytes in [&b"\xff"[..], b"{\"specversion\":\"1.0\",\"id\":\"\xff\",\"type\":\"t\"}", b"\xed\xa0\x80", b"\x1f\x8b\x08\0", &[0; 4096]]
    {
        assert_eq!(from_structured(&Bytes::copy_from_slice(bytes), &options()).unwrap_err().kind(), ErrorKind::Decode);
    }
    let members: String = (0..300).map(|n| format!(r#""X{n}":1,"#)).collect();
    assert!(from_structured(&format!(r#"{{{members}"specversion":"1.0","id":"1","type":"t"}}"#).into(), &options()).is_err());
}

prop_compose! {
    fn any_headers()(list in prop::collection::vec((
        prop_oneof![
            "[a-z0-9._-]{1,12}", "ce-[a-z0-9]{1,8}", Just("traceparent".to_owned()), Just("tracestate".to_owned()),
            prop::sample::select(vec!["ce-source", "ce-id", "ce-dataschema", "ce-datacontenttype", "ce-subject", "ce-traceparent", "ce-abehops", "bcc", "ce-"]).prop_map(str::to_owned),
        ],
        prop_oneof!["\\PC{0,20}", Just(String::new()), Just("application/json".to_owned()), Just("text/xml".to_owned()), Just("/abe-events/x".to_owned())],
    ), 0..8)) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in list {
            let _ = headers.insert_foreign(&name, &value);
        }
        headers
    }
}

prop_compose! {
    fn any_lineage()(ids in ("\\PC{1,20}", "\\PC{1,20}"), hops in any::<u32>(), path in prop::collection::vec("[a-z]{1,5}(\\.[a-z]{1,5}){0,2}", 1..5)) -> Option<std::sync::Arc<Lineage>> {
        let path = path.iter().map(|topic| Topic::new(topic).unwrap()).collect();
        Lineage::received_along(&ids.0.parse().ok()?, &ids.1.parse().ok()?, hops, path)
    }
}

prop_compose! {
    fn any_message()(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            prop::sample::select(payloads()),
            "\\{\"[a-z]\":[ ]?(1|\"\\PC{0,5}\"|\\[\\])\\}".prop_map(String::into_bytes),
        ],
        id in prop_oneof![Just(None), "\\PC{1,40}".prop_map(Some)],
        key in prop::option::of(prop_oneof!["\\PC{0,20}", ".{0,20}", Just("\r\n\0\"\\".to_owned())]),
        (topic, version, ms) in ("[A-Za-z0-9-]{1,9}(\\.[A-Za-z0-9_-]{1,9}){0,3}", 1u32.., 0..=time::MS_MAX),
        lineage in prop_oneof![Just(None), any_lineage()],
        headers in any_headers(),
    ) -> Message {
        let message = Message::new(Topic::new(&topic).unwrap(), version, Payload::from_bytes(payload));
        let id = id.and_then(|id| id.parse().ok()).unwrap_or_else(|| message.id().clone());
        let message = message.with_id(id).with_key(key.map(Into::into)).with_time(UNIX_EPOCH + Duration::from_millis(ms));
        message.with_lineage(lineage).with_headers(headers)
    }
}

proptest! {
    #[test]
    fn any_message_comes_back_as_it_was(sent in any_message()) {
        assert_round_trips(&sent);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\":,\\\\ a-z0-9]{0,80}") {
        let _ = from_structured(&bytes.into(), &options());
        let _ = from_structured(&text.into(), &options());
    }

    #[test]
    fn no_mutation_makes_it_panic(sent in any_message(), at in any::<prop::sample::Index>(), cut in 0usize..6, with in prop::collection::vec(any::<u8>(), 0..4), envelope in any::<bool>()) {
        let json = if envelope { to_envelope(&sent, "s") } else { to_cloudevent(&sent, "s") }.unwrap();
        let mut bytes = json.to_vec();
        let at = at.index(bytes.len());
        bytes.splice(at..(at + cut).min(json.len()), with);
        if let Ok(read) = from_structured(&bytes.into(), &options()) {
            assert_round_trips(&read);
        }
    }

    #[test]
    fn no_attributes_make_it_panic(list in prop::collection::vec(("(id|type|time|abeversion|abehops|abepath|abeheaders|source|ce|.{0,5})", ".{0,30}"), 0..10)) {
        if let Ok(read) = from_attributes(list, Bytes::from_static(b"{}"), &options()) {
            assert_round_trips(&read);
        }
    }

    #[test]
    fn times_come_back(ms in 0..=time::MS_MAX) {
        prop_assert_eq!(time::parse(&time::format(ms).unwrap()), Some(ms));
    }

    #[test]
    fn no_text_makes_the_time_parser_panic(text in "[0-9TZ:.+-]{0,40}|.{0,30}") {
        let _ = time::parse(&text);
    }
}
