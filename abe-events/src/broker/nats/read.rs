//! Messages as NATS carries them: CloudEvents in binary mode, the payload untouched.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use async_nats::header::HeaderName;
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::names::Names;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Id, Message, Payload};
use crate::topic::Topic;
use crate::wire::{self, ReadOptions};

/// How long after it was stored a message may be handed out, in milliseconds.
pub(super) const DELAY: &str = "Abe-Delay";

/// The one subscription that a message is meant for.
pub(super) const ADDRESS: &str = "Abe-For";

/// The id that a message without one got when it came first.
pub(super) const ID: &str = "Abe-Id";

/// The topic of a letter whose subject is none.
const NO_TOPIC: &str = "unreadable";

/// A message as it came.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    /// What its subject says behind the stream's name.
    pub(super) topic: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    pub(super) sequence: u64,
    /// When it was stored.
    pub(super) time_ms: u64,
}

/// A header of ours; a value that could break a line is refused, never let through.
pub(super) fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let refused = |_| Error::new(ErrorKind::Encode, "a header cannot be written");
    let name = HeaderName::from_str(name).map_err(|_| Error::new(ErrorKind::Encode, "a header cannot be named so"))?;
    headers.insert(name, HeaderValue::from_str(value).map_err(refused)?);
    Ok(())
}

/// The headers of a message.
pub(super) fn headers_of(message: &Message) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in wire::attributes(message, "/abe-events/")? {
        insert(&mut headers, &format!("ce-{name}"), &wire::encode_header_value(&value))?;
    }
    // The same event may be published under several topics.
    let id = format!("{}:{}", message.topic(), message.id());
    insert(&mut headers, "Nats-Msg-Id", &wire::encode_header_value(&id))?;
    Ok(headers)
}

/// What a message weighs on the way to the server.
pub(super) fn bytes_of(headers: &HeaderMap, payload: usize) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref() as &str, value)));
    lines.map(|(name, value)| name.len() + value.as_str().len() + 4).sum::<usize>() + "NATS/1.0\r\n\r\n".len() + payload
}

/// The headers as they were, without those that the server acts on, and without some more.
pub(super) fn passive(headers: &HeaderMap, without: &[&str]) -> HeaderMap {
    let mut passive = HeaderMap::new();
    for (name, values) in headers.iter() {
        let text: &str = name.as_ref();
        let left_out = without.iter().any(|name| name.eq_ignore_ascii_case(text));
        if !left_out && !text.to_ascii_lowercase().starts_with("nats-") {
            values.iter().for_each(|value| passive.append(name.clone(), value.clone()));
        }
    }
    passive
}

impl Raw {
    pub(super) fn of(names: &Names, subject: &str, headers: Option<HeaderMap>, payload: Bytes, sequence: u64, time_ms: u64) -> Self {
        let topic = names.topic_of(subject).unwrap_or(subject).to_owned();
        Self { topic, headers: headers.unwrap_or_default(), payload, sequence, time_ms }
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| (name.as_ref() as &str).eq_ignore_ascii_case(wanted));
        found.and_then(|(_, values)| values.first()).map(HeaderValue::as_str)
    }

    pub(super) fn address(&self) -> Option<&str> {
        self.header(ADDRESS)
    }

    /// From when on it may be handed out, in milliseconds of the server's clock.
    pub(super) fn due_ms(&self) -> u64 {
        let delay = self.header(DELAY).and_then(|text| text.parse().ok()).unwrap_or(0);
        self.time_ms.saturating_add(delay)
    }

    /// The message.
    pub(super) fn message(&self) -> Result<Message> {
        let options = ReadOptions {
            // What the server took is handed out, whatever the limit is today.
            payload_bytes_max: usize::MAX / 8,
            id: Some(self.own_id()?),
            time: UNIX_EPOCH.checked_add(Duration::from_millis(self.time_ms)),
            topic: Topic::new(&self.topic).ok(),
        };
        let mut attributes: Vec<(String, String)> = Vec::new();
        for (name, values) in self.headers.iter() {
            let name = (name.as_ref() as &str).to_ascii_lowercase();
            let Some(attribute) = name.strip_prefix("ce-") else { continue };
            for value in values {
                let value = wire::decode_header_value(value.as_str());
                let value = value.ok_or_else(|| Error::new(ErrorKind::Decode, format!("header {name:?} is no UTF-8")))?;
                attributes.push((attribute.to_owned(), value.into_owned()));
            }
        }
        let content_type = self.header("content-type").map(str::to_ascii_lowercase).unwrap_or_default();
        if attributes.is_empty() && content_type.starts_with("application/cloudevents+json") {
            return wire::from_structured(&self.payload, &options);
        }
        if attributes.is_empty() && self.payload.first() == Some(&b'{') {
            // An event of others, or an envelope, or just the payload.
            if let Ok(message) = wire::from_structured(&self.payload, &options) {
                return Ok(message);
            }
        }
        if !content_type.is_empty() && !attributes.iter().any(|(name, _)| name == "datacontenttype") {
            attributes.push(("datacontenttype".to_owned(), content_type));
        }
        wire::from_attributes(attributes, self.payload.clone(), &options)
    }

    /// Its bytes as a message, where nobody can read it as one.
    pub(super) fn as_bytes(&self) -> Result<Message> {
        let topic = Topic::new(&self.topic).or_else(|_| Topic::new(NO_TOPIC))?;
        let payload = Payload::of_type("application/octet-stream", self.payload.clone())?;
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(self.time_ms)).unwrap_or(UNIX_EPOCH);
        Ok(Message::new(topic, 1, payload).with_id(self.own_id()?).with_time(time))
    }

    /// The id of a message that has none.
    fn own_id(&self) -> Result<Id> {
        if let Some(id) = self.header(ID).and_then(wire::decode_header_value).and_then(|id| id.parse().ok()) {
            return Ok(id);
        }
        format!("nats-{}-{}", self.time_ms, self.sequence).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn raw(topic: &str, headers: HeaderMap, payload: &str) -> Raw {
        Raw { topic: topic.into(), headers, payload: Bytes::copy_from_slice(payload.as_bytes()), sequence: 7, time_ms: 1_795_354_800_123 }
    }

    fn with(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|(name, value)| headers.append(*name, *value));
        headers
    }

    #[test]
    fn a_message_comes_back_whole_and_no_value_breaks_a_line() {
        let mut headers = Headers::new();
        headers.insert("tenant", "grüße").unwrap();
        let message = Message::new(Topic::new("order.created").unwrap(), 3, Payload::from_bytes("{\"a\":1}"));
        let message = message.with_headers(headers).with_key(Some("a\0b\r\n".into())).with_id("id: x/é %".parse().unwrap());
        let lines = headers_of(&message).unwrap();
        assert!(lines.iter().all(|(_, values)| values.iter().all(|value| value.as_str().bytes().all(|c| (0x21..0x7f).contains(&c)))));
        let read = raw("order.created", lines, "{\"a\":1}").message().unwrap();
        assert_eq!((read.id(), read.topic(), read.version(), read.key()), (message.id(), message.topic(), 3, message.key()));
        assert_eq!((read.headers(), read.time_ms()), (message.headers(), message.time_ms()));
    }

    #[test]
    fn what_others_publish_is_read_or_refused() {
        let plain = raw("order.created", HeaderMap::new(), "{\"order_id\":7}").message().unwrap();
        assert_eq!(
            (plain.topic().as_str(), plain.version(), plain.id().to_string().as_str()),
            ("order.created", 1, "nats-1795354800123-7")
        );
        let event = "{\"specversion\":\"1.0\",\"type\":\"order.created\",\"source\":\"x\",\"id\":\"z\",\"data\":{\"a\":1}}";
        assert_eq!(raw("order.created", HeaderMap::new(), event).message().unwrap().id().to_string(), "z");
        let binary = with(&[("CE-Id", "z"), ("ce-type", "order.created"), ("ce-specversion", "1.0"), ("Content-Type", "text/plain")]);
        assert_eq!(raw("order.created", binary, "x").message().unwrap().payload().content_type(), "text/plain");
        for (headers, payload) in [
            (with(&[("ce-specversion", "9.9")]), "{}"),
            (with(&[("ce-id", "a"), ("ce-id", "b")]), "{}"),
            (with(&[("ce-id", "%ff")]), "{}"),
            (with(&[("ce-time", "yesterday")]), "{}"),
            (with(&[("Content-Type", "application/cloudevents+json")]), "no event"),
        ] {
            let raw = raw("order.created", headers, payload);
            assert!(raw.message().is_err(), "{raw:?}");
            assert_eq!(raw.as_bytes().unwrap().payload().to_bytes().unwrap(), payload);
        }
        assert!(raw("no topic!", HeaderMap::new(), "{}").message().is_err());
        assert_eq!(raw("no topic!", HeaderMap::new(), "{}").as_bytes().unwrap().topic().as_str(), NO_TOPIC);
    }

    #[test]
    fn a_copy_holds_nothing_that_the_server_acts_on() {
        let copy =
            passive(&with(&[("Nats-Msg-Id", "1"), ("nats-rollup", "all"), ("ce-id", "z"), ("X", "1"), ("X", "2"), ("Y", "1")]), &["y"]);
        assert_eq!((copy.len(), copy.get_all("X").count()), (2, 2));
    }
}
