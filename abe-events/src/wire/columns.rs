//! A message as columns of a table, and back: what the columns do not tell stands in one text.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use compact_str::CompactString;

use super::{ReadOptions, attributes, from_attributes};
use crate::codec::JSON;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, Payload};
use crate::mutant;
use crate::topic::Topic;

/// A JSON list of names and values, for a message of which there is more to tell than its columns do.
pub(crate) fn attributes_of(message: &Message) -> Result<Option<String>> {
    if message.lineage().is_none()
        && message.headers().is_empty()
        && (message.payload().content_type() == JSON || mutant::is("content-type-lost"))
    {
        return Ok(None);
    }
    let list = attributes(message, "/abe-events/")?;
    let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
    serde_json::to_string(&list).map(Some).map_err(|error| Error::new(ErrorKind::Encode, error.to_string()))
}

/// The message of such columns, or why nobody can read it.
pub(crate) fn build(
    id: &str,
    topic: &str,
    version: u32,
    time_ms: i64,
    key: Option<CompactString>,
    attributes: Option<&str>,
    payload: Bytes,
) -> Result<Message> {
    if let Some(attributes) = attributes {
        let list: Vec<(String, String)> =
            serde_json::from_str(attributes).map_err(|error| Error::new(ErrorKind::Decode, error.to_string()))?;
        // What was accepted at publish is handed out, whatever the limit is today.
        let options = ReadOptions { payload_bytes_max: usize::MAX, ..ReadOptions::default() };
        return from_attributes(list, payload, &options);
    }
    let time = UNIX_EPOCH + Duration::from_millis(time_ms.cast_unsigned());
    Ok(Message::new(Topic::new(topic)?, version, Payload::from_bytes(payload)).with_id(id.parse()?).with_time(time).with_key(key))
}
