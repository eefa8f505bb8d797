//! Messages as the entries of a stream hold them: CloudEvents attributes as fields, and `data`, the payload untouched.

use std::borrow::Cow;

use ::redis::Value;
use bytes::Bytes;

use super::reply;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Id, Message, Payload};
use crate::topic::Topic;
use crate::wire::{self, ReadOptions};

/// The field of the payload.
const DATA: &str = "data";

/// The field by which other programs name the topic, if they know no attributes.
const TOPIC: &str = "topic";

/// The id that a message without one got when it came first.
const ID: &str = "abe-id";

/// The topic of a letter that has none.
const NO_TOPIC: &str = "unreadable";

/// The fields of a message: names and values.
pub(super) fn fields_of(message: &Message) -> Result<Vec<(Cow<'static, str>, Bytes)>> {
    let mut fields = Vec::new();
    for (name, value) in wire::attributes(message, "/abe-events/")? {
        fields.push((format!("ce-{name}").into(), value.into()));
    }
    fields.push((DATA.into(), message.payload().to_bytes()?));
    Ok(fields)
}

/// An entry as it came.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    fields: Vec<(Vec<u8>, Bytes)>,
}

impl Entry {
    pub(super) fn new(id: &Value, fields: &Value) -> Self {
        let pairs = reply::list(Some(fields)).chunks_exact(2);
        let pairs = pairs.map(|pair| (reply::bytes(&pair[0]).to_vec(), Bytes::copy_from_slice(reply::bytes(&pair[1]))));
        Self { id: reply::text(id), fields: pairs.collect() }
    }

    pub(super) fn field(&self, wanted: &str) -> Option<&Bytes> {
        self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes())).map(|(_, value)| value)
    }

    pub(super) fn text(&self, wanted: &str) -> Option<&str> {
        std::str::from_utf8(self.field(wanted)?).ok()
    }

    pub(super) fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The message.
    pub(super) fn message(&self) -> Result<Message> {
        let options = ReadOptions {
            // What the server took is handed out, whatever the limit is today.
            payload_bytes_max: usize::MAX / 8,
            id: Some(self.own_id()?),
            topic: self.text(TOPIC).and_then(|topic| Topic::new(topic).ok()),
            ..ReadOptions::default()
        };
        let mut attributes: Vec<(String, &str)> = Vec::new();
        for (name, value) in &self.fields {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let Some(attribute) = name.strip_prefix("ce-") else { continue };
            let value = std::str::from_utf8(value);
            let value = value.map_err(|_| Error::new(ErrorKind::Decode, format!("field {name:?} is no UTF-8")))?;
            attributes.push((attribute.to_owned(), value));
        }
        let data = self.field(DATA).ok_or_else(|| Error::new(ErrorKind::Decode, "there is no field `data`"))?;
        if attributes.is_empty() && data.first() == Some(&b'{') {
            // An event of others, or an envelope, or just the payload.
            if let Ok(message) = wire::from_structured(data, &options) {
                return Ok(message);
            }
        }
        wire::from_attributes(attributes, data.clone(), &options)
    }

    /// Its bytes as a message, where nobody can read it as one.
    pub(super) fn as_bytes(&self) -> Result<Message> {
        let named = self.text("ce-type").or_else(|| self.text(TOPIC)).and_then(|topic| Topic::new(topic).ok());
        let topic = named.map_or_else(|| Topic::new(NO_TOPIC), Ok)?;
        let data = self.field(DATA).cloned().unwrap_or_else(|| self.all_fields());
        let payload = Payload::of_type("application/octet-stream", data)?;
        Ok(Message::new(topic, 1, payload).with_id(self.own_id()?))
    }

    /// All there is, for an entry that has no payload.
    fn all_fields(&self) -> Bytes {
        let ours = |name: &[u8]| name.starts_with(b"abe-");
        let fields = self.fields.iter().filter(|(name, _)| !ours(name));
        fields.flat_map(|(name, value)| [name.as_slice(), b"=", value, b"\n"].concat()).collect()
    }

    /// The id of a message that has none.
    fn own_id(&self) -> Result<Id> {
        if let Some(id) = self.text(ID).and_then(|id| id.parse().ok()) {
            return Ok(id);
        }
        format!("redis-{}", self.id).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), Bytes::copy_from_slice(value))).collect();
        Entry { id: "1795354800123-7".into(), fields }
    }

    #[test]
    fn a_message_comes_back_whole() {
        let mut headers = Headers::new();
        headers.insert("tenant", "grüße").unwrap();
        let message = Message::new(Topic::new("order.created").unwrap(), 3, Payload::from_bytes(vec![0, 255, 13, 10]));
        let message = message.with_headers(headers).with_key(Some("a\0b\r\n".into())).with_id("id: x/é %".parse().unwrap());
        let fields = fields_of(&message).unwrap();
        let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        let read = entry(&fields).message().unwrap();
        assert_eq!((read.id(), read.topic(), read.version(), read.key()), (message.id(), message.topic(), 3, message.key()));
        assert_eq!((read.headers(), read.time_ms()), (message.headers(), message.time_ms()));
        assert_eq!(read.payload().to_bytes().unwrap(), vec![0, 255, 13, 10]);
    }

    #[test]
    fn what_others_add_is_read_or_refused() {
        let plain = entry(&[("topic", b"order.created"), ("data", b"{\"order_id\":7}")]).message().unwrap();
        assert_eq!((plain.topic().as_str(), plain.id().to_string().as_str()), ("order.created", "redis-1795354800123-7"));
        let event = b"{\"specversion\":\"1.0\",\"type\":\"order.created\",\"source\":\"x\",\"id\":\"z\",\"data\":{\"a\":1}}";
        assert_eq!(entry(&[("data", event)]).message().unwrap().id().to_string(), "z");
        for fields in [
            &[("topic", b"order.created".as_slice())][..],
            &[("data", b"{}")],
            &[("topic", b"no topic!"), ("data", b"{}")],
            &[("ce-specversion", b"9.9"), ("data", b"{}")],
            &[("ce-id", b"\xff"), ("data", b"{}")],
            &[("ce-id", b"a"), ("CE-ID", b"b"), ("data", b"{}")],
        ] {
            let entry = entry(fields);
            assert!(entry.message().is_err(), "{fields:?}");
            assert!(entry.as_bytes().is_ok(), "{fields:?}");
        }
        assert_eq!(entry(&[("x", b"\xff")]).as_bytes().unwrap().payload().to_bytes().unwrap(), b"x=\xff\n".as_slice());
    }
}
