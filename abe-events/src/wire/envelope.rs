//! A message in the envelope of the ABE framework: `{version, type, data, meta: {timestamp, correlation_id, source}}`.

use bytes::Bytes;

use super::attributes::{ATTRIBUTE_BYTES_MAX, List, path_of};
use super::cloudevents::{payload, push_payload};
use super::json::{Members, is_embeddable, malformed, push_name, push_string, scalar};
use super::{ReadOptions, time};
use crate::codec::JSON;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;

/// How long `meta` may be: with topic and version beside it, it is still read.
const META_BYTES_MAX: usize = ATTRIBUTE_BYTES_MAX - 512;

/// What stands in `meta`, and the attribute that says the same.
const META: [(&str, &str); 9] = [
    ("id", "id"),
    ("timestamp", "time"),
    ("correlation_id", "correlationid"),
    ("causation_id", "causationid"),
    ("source", "source"),
    ("key", "partitionkey"),
    ("hops", "abehops"),
    ("path", "abepath"),
    ("content_type", "datacontenttype"),
];

/// A message in ABE's envelope.
///
/// `meta` has, beside what ABE itself writes, `id`, and where there are any `causation_id`, `hops`, `path`, `key` and
/// `headers`, which ABE's readers pass over, and `content_type` of what is not declared as JSON. A payload that is no JSON
/// stands in `data_base64`.
///
/// # Errors
///
/// As [`to_cloudevent`](super::to_cloudevent).
pub fn to_envelope(message: &Message, source: &str) -> Result<Bytes> {
    let payload = message.payload().to_bytes()?;
    let timestamp = time::format(message.time_ms());
    let timestamp = timestamp.ok_or_else(|| Error::new(ErrorKind::Encode, "the message's time is past the year 9999"))?;
    let mut json = Vec::with_capacity(payload.len() * 4 / 3 + 512);
    json.push(b'{');
    let member = |json: &mut Vec<u8>, name: &str, text: &str| {
        push_name(json, name);
        push_string(json, text);
    };
    member(&mut json, "version", &format!("v{}", message.version()));
    member(&mut json, "type", message.topic().as_str());
    let embedded = is_embeddable(&payload);
    push_payload(&mut json, &payload, embedded);
    push_name(&mut json, "meta");
    let start = json.len();
    json.push(b'{');
    member(&mut json, "timestamp", &timestamp);
    member(&mut json, "correlation_id", &message.correlation_id().to_string());
    member(&mut json, "source", message.headers().get("ce-source").unwrap_or(source));
    member(&mut json, "id", &message.id().to_string());
    if let Some(lineage) = message.lineage() {
        member(&mut json, "causation_id", &lineage.causation_id().to_string());
        push_name(&mut json, "hops");
        json.extend_from_slice(lineage.hops().to_string().as_bytes());
        member(&mut json, "path", &path_of(lineage));
    }
    if let Some(key) = message.key() {
        member(&mut json, "key", key);
    }
    if message.payload().content_type() != JSON {
        member(&mut json, "content_type", message.payload().content_type());
    }
    if !message.headers().is_empty() {
        push_name(&mut json, "headers");
        json.push(b'{');
        for (name, value) in message.headers().iter() {
            member(&mut json, name, value);
        }
        json.push(b'}');
    }
    json.push(b'}');
    if json.len() - start > META_BYTES_MAX {
        return Err(Error::new(ErrorKind::TooLarge, format!("the envelope's meta has more than {META_BYTES_MAX} bytes")));
    }
    json.push(b'}');
    Ok(json.into())
}

/// Whether an object looks like one.
pub(super) fn is_envelope(members: &Members<'_>) -> bool {
    let has = |name| members.get(name).is_some();
    has("type") && (has("version") || has("meta")) && (has("data") || has("data_base64") || has("meta"))
}

pub(super) fn read(bytes: &Bytes, members: &Members<'_>, options: &ReadOptions) -> Result<Message> {
    let mut list = List::default();
    for (name, attribute) in [("type", "type"), ("version", "abeversion")] {
        if let Some(value) = members.get(name).map(|raw| scalar(name, raw)).transpose()?.flatten() {
            // Go writes the zero value of a field that nobody has set.
            if !value.is_empty() || name == "type" {
                list.push(attribute.to_owned(), value.into_owned())?;
            }
        }
    }
    let meta = members.get("meta").filter(|raw| raw.get() != "null");
    if let Some(meta) = meta {
        let meta = Members::parse(meta.get()).map_err(|error| error.context("meta"))?;
        for (name, attribute) in META {
            let Some(value) = meta.get(name).map(|raw| scalar(name, raw)).transpose()?.flatten() else { continue };
            let value = if name == "timestamp" { timestamp(&value)? } else { value.into_owned() };
            if !value.is_empty() || name == "key" {
                list.push(attribute.to_owned(), value)?;
            }
        }
        if let Some(headers) = meta.get("headers").filter(|raw| raw.get() != "null") {
            list.push("abeheaders".into(), headers.get().to_owned())?;
        }
    }
    let payload = payload(bytes, members, true, options)?;
    list.into_message(payload, options)
}

/// A time as text, or as seconds or milliseconds since 1970.
fn timestamp(text: &str) -> Result<String> {
    // Go's zero time: nobody has set it.
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(String::new());
    }
    let Ok(number) = text.parse::<u64>() else { return Ok(text.to_owned()) };
    // Seconds reach this number in the year 5138, milliseconds did in 1973.
    let ms = if number < 100_000_000_000 { number * 1_000 } else { number };
    time::format(ms).ok_or_else(|| malformed("meta.timestamp is past the year 9999"))
}
