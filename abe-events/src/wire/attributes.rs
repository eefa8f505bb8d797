//! What describes a message, as a list of CloudEvents attributes, and a message of such a list.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use compact_str::CompactString;

use super::json::{Members, malformed, push_name, push_string, scalar, shorten};
use super::{ReadOptions, time};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Headers, Id, Lineage, Message, Payload};
use crate::topic::Topic;

/// Name and value of an attribute.
pub type Attribute = (Cow<'static, str>, String);

/// How many bytes all attributes of a message may have, its headers included.
pub const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

/// How many attributes a message may have.
const ATTRIBUTE_COUNT_MAX: usize = 128;

/// How many topics of the path are written; far beyond any `max_hops` in use.
const PATH_TOPICS_MAX: usize = 64;

const OUR_SOURCE: &str = "/abe-events/";
const OUR_SCHEMA: &str = "urn:abe-events:";
pub(super) const BYTES: &str = "application/octet-stream";

/// Attributes that are part of the message itself, never headers.
const OWN: [&str; 14] = [
    "specversion",
    "datacontenttype",
    "id",
    "type",
    "time",
    "partitionkey",
    "correlationid",
    "causationid",
    "abeversion",
    "abehops",
    "abepath",
    "abeheaders",
    "data",
    "data_base64",
];

/// The attributes of a message in CloudEvents' binary mode; the payload travels beside them, untouched.
///
/// Names are without a prefix: a broker adds its own, `ce-` for NATS and HTTP, `ce_` for Kafka, `cloudEvents:` for AMQP.
/// Values are text; where headers are lines, [`encode_header_value`](super::encode_header_value) makes them fit.
/// `source` names the publishing program, as [`source_of`](super::source_of) does.
///
/// # Errors
///
/// [`ErrorKind::Encode`] for a time past the year 9999, [`ErrorKind::TooLarge`] past [`ATTRIBUTE_BYTES_MAX`].
pub fn attributes(message: &Message, source: &str) -> Result<Vec<Attribute>> {
    let headers = message.headers();
    let carried = |name: &str| headers.iter().find(|(header, value)| *header == name && attribute_of(header, value).is_some());
    let or = |name: &str, own: String| carried(name).map_or(own, |(_, value)| value.to_owned());
    let time = time::format(message.time_ms()).ok_or_else(|| Error::new(ErrorKind::Encode, "the message's time is past the year 9999"))?;
    let mut list: Vec<Attribute> = vec![
        ("specversion".into(), "1.0".into()),
        ("id".into(), message.id().to_string()),
        ("source".into(), or("ce-source", source.to_owned())),
        ("type".into(), message.topic().to_string()),
        ("time".into(), time),
        ("datacontenttype".into(), message.payload().content_type().to_owned()),
        ("dataschema".into(), or("ce-dataschema", format!("{OUR_SCHEMA}{}:v{}", message.topic(), message.version()))),
        ("abeversion".into(), message.version().to_string()),
    ];
    if let Some(key) = message.key() {
        list.push(("partitionkey".into(), key.to_owned()));
    }
    if let Some(lineage) = message.lineage() {
        list.push(("correlationid".into(), lineage.correlation_id().to_string()));
        list.push(("causationid".into(), lineage.causation_id().to_string()));
        list.push(("abehops".into(), lineage.hops().to_string()));
        list.push(("abepath".into(), path_of(lineage)));
    }
    for (name, value) in headers.iter() {
        if let Some(attribute) = attribute_of(name, value).filter(|name| !list.iter().any(|(known, _)| known == name)) {
            list.push((attribute.to_owned().into(), value.to_owned()));
        }
    }
    // A lone `traceparent` is clear without the list.
    if headers.iter().any(|(name, value)| name != "traceparent" || value.is_empty()) {
        list.push(("abeheaders".into(), headers_text(headers)));
    }
    let bytes: usize = list.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ATTRIBUTE_BYTES_MAX {
        return Err(Error::new(ErrorKind::TooLarge, format!("attributes have {bytes} bytes, at most {ATTRIBUTE_BYTES_MAX} are allowed")));
    }
    Ok(list)
}

/// The message of a payload and the attributes that came with it, named as by [`attributes`].
///
/// Attributes of others become headers with `ce-` before the name. Without any attribute it is the message of a program
/// that knows none: then `options` must tell at least the topic.
///
/// # Errors
///
/// [`ErrorKind::Decode`] for an attribute that is not what it must be, or stands twice; [`ErrorKind::InvalidName`] for a
/// topic, id or header that is not allowed; [`ErrorKind::TooLarge`] past a limit.
pub fn from_attributes<N: AsRef<str>, V: AsRef<str>>(
    attributes: impl IntoIterator<Item = (N, V)>,
    payload: Bytes,
    options: &ReadOptions,
) -> Result<Message> {
    let mut list = List::default();
    for (name, value) in attributes {
        list.push(name.as_ref().to_owned(), value.as_ref().to_owned())?;
    }
    list.into_message(payload, options)
}

/// Attributes as they are read: bounded, and none twice.
#[derive(Default)]
pub(super) struct List {
    list: Vec<(String, String)>,
    bytes: usize,
}

impl List {
    pub(super) fn push(&mut self, name: String, value: String) -> Result<()> {
        self.bytes += name.len() + value.len();
        if self.list.len() == ATTRIBUTE_COUNT_MAX || self.bytes > ATTRIBUTE_BYTES_MAX {
            let text = format!("at most {ATTRIBUTE_COUNT_MAX} attributes of {ATTRIBUTE_BYTES_MAX} bytes in all are allowed");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        if self.get(&name).is_some() {
            return Err(malformed(format!("attribute {} stands twice", shorten(&name))));
        }
        self.list.push((name, value));
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn into_message(self, payload: Bytes, options: &ReadOptions) -> Result<Message> {
        if let Some(other) = self.get("specversion").filter(|version| *version != "1.0") {
            return Err(malformed(format!("specversion {} is not 1.0", shorten(other))));
        }
        super::check_payload(payload.len(), options)?;
        let topic = match (self.get("type"), &options.topic) {
            (Some(text), _) => Topic::new(text)?,
            (None, Some(topic)) => topic.clone(),
            (None, None) => return Err(malformed("attribute type is missing")),
        };
        let payload = match self.get("datacontenttype") {
            // The specification allows no empty one; whoever sends it says nothing.
            None | Some("") => Payload::from_bytes(payload),
            Some(content_type) => Payload::of_type(content_type, payload)?,
        };
        let message = Message::new(topic, self.version()?, payload);
        let id = match (self.id("id")?, &options.id) {
            (Some(id), _) => id,
            (None, Some(id)) => id.clone(),
            (None, None) => message.id().clone(),
        };
        let time = match self.get("time") {
            Some(text) => Some(UNIX_EPOCH + Duration::from_millis(read_time(text)?)),
            None => options.time.or_else(|| id.time_ms().map(|ms| UNIX_EPOCH + Duration::from_millis(ms))),
        };
        let lineage = self.lineage(&id, message.topic())?;
        let headers = self.headers()?;
        let message = message.with_id(id).with_key(self.get("partitionkey").map(CompactString::from)).with_lineage(lineage);
        let message = message.with_headers(headers);
        Ok(match time {
            Some(time) => message.with_time(time),
            None => message,
        })
    }

    fn id(&self, name: &str) -> Result<Option<Id>> {
        self.get(name).map(|text| text.parse().map_err(|error: Error| error.context(name))).transpose()
    }

    fn number(&self, name: &str) -> Result<Option<u32>> {
        let parse = |text: &str| text.parse().map_err(|_| malformed(format!("attribute {name} is {}, not a number", shorten(text))));
        self.get(name).map(parse).transpose()
    }

    fn version(&self) -> Result<u32> {
        let of_schema = || self.get("dataschema")?.strip_prefix(OUR_SCHEMA)?.rsplit_once(':').map(|(_, version)| version);
        let Some(text) = self.get("abeversion").or_else(of_schema) else { return Ok(1) };
        read_version(text).ok_or_else(|| malformed(format!("version {} is not one such as v2", shorten(text))))
    }

    fn lineage(&self, id: &Id, topic: &Topic) -> Result<Option<Arc<Lineage>>> {
        let (correlation, causation, hops) = (self.id("correlationid")?, self.id("causationid")?, self.number("abehops")?);
        let path = self.get("abepath").unwrap_or_default();
        let path: Vec<Topic> =
            path.split(',').filter(|topic| !topic.is_empty()).take(PATH_TOPICS_MAX).map(Topic::new).collect::<Result<_>>()?;
        // Many systems give the first event of a chain its own id as correlation.
        if causation.is_none() && hops.is_none() && path.is_empty() && correlation.as_ref().is_none_or(|correlation| correlation == id) {
            return Ok(None);
        }
        let correlation = correlation.or_else(|| causation.clone()).unwrap_or_else(|| id.clone());
        let causation = causation.unwrap_or_else(|| correlation.clone());
        let path = if path.is_empty() { vec![topic.clone()] } else { path };
        Ok(Lineage::received_along(&correlation, &causation, hops.unwrap_or(0), path))
    }

    fn headers(&self) -> Result<Headers> {
        let mut headers = Headers::new();
        if let Some(text) = self.get("abeheaders") {
            for (name, value) in Members::parse(text).map_err(|error| error.context("abeheaders"))?.iter() {
                let value = match scalar(name, value)? {
                    Some(value) => value,
                    // Its value is the attribute's; dropped on the way, if there is none.
                    None => match self.get(name.strip_prefix("ce-").unwrap_or(name)) {
                        Some(value) => value.into(),
                        None => continue,
                    },
                };
                headers.insert_foreign(name, &value)?;
            }
        }
        for (name, value) in &self.list {
            let Some(header) = header_of(name, value) else { continue };
            if headers.get(&header).is_none() {
                headers.insert_foreign(&header, value)?;
            }
        }
        Ok(headers)
    }
}

/// The attribute that carries a header's value, if one does.
fn attribute_of<'a>(header: &'a str, value: &str) -> Option<&'a str> {
    let name = match header {
        "traceparent" | "tracestate" => header,
        _ => header.strip_prefix("ce-").filter(|name| !matches!(*name, "traceparent" | "tracestate"))?,
    };
    (is_attribute_name(name) && !OWN.contains(&name) && !value.is_empty()).then_some(name)
}

/// The header that an attribute of others becomes, unless it says what every message of ours says.
fn header_of<'a>(attribute: &'a str, value: &str) -> Option<Cow<'a, str>> {
    let ours = match attribute {
        "traceparent" | "tracestate" => return Some(attribute.into()),
        "source" => value.starts_with(OUR_SOURCE),
        "dataschema" => value.starts_with(OUR_SCHEMA),
        // A name that the specification does not allow is no attribute.
        _ => OWN.contains(&attribute) || !is_attribute_name(attribute),
    };
    (!ours).then(|| format!("ce-{attribute}").into())
}

/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#attribute-naming-convention>
fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// All headers in their order; `null` for one whose value an attribute carries.
fn headers_text(headers: &Headers) -> String {
    let mut json = b"{".to_vec();
    for (name, value) in headers.iter() {
        push_name(&mut json, name);
        match attribute_of(name, value) {
            Some(_) => json.extend_from_slice(b"null"),
            None => push_string(&mut json, value),
        }
    }
    json.push(b'}');
    String::from_utf8(json).unwrap_or_default()
}

pub(super) fn path_of(lineage: &Lineage) -> String {
    let path = lineage.path();
    let last: Vec<&str> = path[path.len().saturating_sub(PATH_TOPICS_MAX)..].iter().map(|topic| topic.as_str()).collect();
    last.join(",")
}

/// `2`, `v2` or `2.0`.
fn read_version(text: &str) -> Option<u32> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.strip_suffix(".0").unwrap_or(text);
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|version| *version > 0)
}

fn read_time(text: &str) -> Result<u64> {
    time::parse(text).ok_or_else(|| malformed(format!("time {} is no RFC 3339 time from 1970 to 9999", shorten(text))))
}
