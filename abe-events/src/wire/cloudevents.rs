//! A message as [CloudEvents JSON](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;

use super::attributes::{BYTES, List, attributes};
use super::json::{Members, is_embeddable, is_nested, malformed, push_name, push_string, scalar, string};
use super::{ReadOptions, check_payload};
use crate::codec::JSON;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;

/// A message as CloudEvents 1.0 structured JSON, `application/cloudevents+json`.
///
/// A JSON payload stands in `data` byte for byte; any other in `data_base64`; an empty one in neither.
/// `source` names the publishing program, as [`source_of`](super::source_of) does.
///
/// # Errors
///
/// [`ErrorKind::Encode`] when a typed payload cannot be serialized or the time is past the year 9999;
/// [`ErrorKind::TooLarge`] for attributes past [`ATTRIBUTE_BYTES_MAX`](super::ATTRIBUTE_BYTES_MAX).
pub fn to_cloudevent(message: &Message, source: &str) -> Result<Bytes> {
    let payload = message.payload().to_bytes()?;
    let mut list = attributes(message, source)?;
    let declared = message.payload().content_type();
    let embedded = is_json(declared) && is_embeddable(&payload);
    let looks_json = || std::str::from_utf8(&payload).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    // Bytes of which nobody said what they are.
    if declared == JSON && !embedded && !payload.is_empty() && !looks_json() {
        for (_, value) in list.iter_mut().filter(|(name, _)| name == "datacontenttype") {
            *value = BYTES.to_owned();
        }
    }
    let mut json = Vec::with_capacity(payload.len() * 4 / 3 + 1024);
    json.push(b'{');
    for (name, value) in &list {
        push_name(&mut json, name);
        // Integers of CloudEvents have 32 bits and a sign; what does not fit is text.
        if matches!(&**name, "abeversion" | "abehops") && value.parse::<i32>().is_ok() {
            json.extend_from_slice(value.as_bytes());
        } else {
            push_string(&mut json, value);
        }
    }
    push_payload(&mut json, &payload, embedded);
    json.push(b'}');
    Ok(json.into())
}

/// Appends the member that holds the payload.
pub(super) fn push_payload(json: &mut Vec<u8>, payload: &[u8], embedded: bool) {
    if embedded {
        push_name(json, "data");
        json.extend_from_slice(payload);
    } else if !payload.is_empty() {
        push_name(json, "data_base64");
        push_string(json, &BASE64_STANDARD.encode(payload));
    }
}

pub(super) fn read(bytes: &Bytes, members: &Members<'_>, options: &ReadOptions) -> Result<Message> {
    let mut list = List::default();
    for (name, value) in members.iter() {
        // Only what we know must be a single value; others may have nested what the specification does not allow.
        if matches!(name, "data" | "data_base64") || (is_nested(value) && !is_ours(name)) {
            continue;
        }
        if let Some(value) = scalar(name, value)? {
            list.push(name.to_owned(), value.into_owned())?;
        }
    }
    if list.get("specversion").is_none() || list.get("type").is_none() {
        return Err(malformed("a CloudEvent without specversion or type"));
    }
    if list.get("id").is_none() && options.id.is_none() {
        return Err(malformed("a CloudEvent without id"));
    }
    let payload = payload(bytes, members, list.get("datacontenttype").is_none_or(is_json), options)?;
    list.into_message(payload, options)
}

fn is_ours(name: &str) -> bool {
    name.starts_with("abe")
        || matches!(
            name,
            "specversion"
                | "id"
                | "source"
                | "type"
                | "time"
                | "datacontenttype"
                | "dataschema"
                | "partitionkey"
                | "correlationid"
                | "causationid"
        )
}

/// The payload as it stands in `data` or `data_base64`.
pub(super) fn payload(bytes: &Bytes, members: &Members<'_>, json: bool, options: &ReadOptions) -> Result<Bytes> {
    let encoded = match members.get("data_base64") {
        Some(raw) => scalar("data_base64", raw)?,
        None => None,
    };
    match (members.get("data"), encoded) {
        (Some(_), Some(_)) => Err(malformed("both data and data_base64")),
        (None, None) => Ok(Bytes::new()),
        // Of a type that is not JSON, a string stands for its text.
        (Some(raw), None) if !json && raw.get().starts_with('"') => string("data", raw.get()).map(Bytes::from),
        (Some(raw), None) => {
            check_payload(raw.get().len(), options)?;
            Ok(bytes.slice_ref(raw.get().as_bytes()))
        }
        (None, Some(text)) => {
            check_payload((text.len() / 4 * 3).saturating_sub(2), options)?;
            let decoded = BASE64_STANDARD.decode(text.as_bytes());
            decoded.map(Bytes::from).map_err(|error| Error::new(ErrorKind::Decode, "data_base64 is no base64").with_source(error))
        }
    }
}

/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#datacontenttype>
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}
