//! Messages as bytes: what leaves the process, and what comes in from programs of any language.
//!
//! On a broker with headers a message is its payload, untouched, with [`attributes`] in the headers. Where there are no
//! headers, or a single text is wanted, it is [CloudEvents JSON](to_cloudevent); [`from_structured`] reads that and the
//! [envelope of ABE](to_envelope).
//!
//! ```
//! use abe_events::wire::{self, ReadOptions};
//! use abe_events::{Message, Payload, Topic};
//!
//! let payload = Payload::from_bytes(r#"{"order_id": 7, "amount": 1.50}"#);
//! let message = Message::new(Topic::new("order.created")?, 2, payload).with_key(Some("7".into()));
//!
//! let json = wire::to_cloudevent(&message, "/abe-events/shop")?;
//! let read = wire::from_structured(&json, &ReadOptions::default())?;
//! assert_eq!((read.id(), read.topic(), read.version(), read.key()), (message.id(), message.topic(), 2, Some("7")));
//! assert_eq!(read.payload().to_bytes()?, r#"{"order_id": 7, "amount": 1.50}"#); // to the byte
//! # Ok::<(), abe_events::Error>(())
//! ```
//!
//! | attribute | of the message |
//! |---|---|
//! | `id`, `type`, `time` | id, topic, time to the millisecond |
//! | `source` | the publishing group, `/abe-events/<group>` |
//! | `dataschema`, `abeversion` | the version, as `urn:abe-events:<topic>:v<version>` and as a number |
//! | `datacontenttype` | the payload's content type: of the event's codec, or as it came; in structured mode `application/octet-stream` for what is said to be JSON and is none |
//! | `partitionkey` | the key |
//! | `correlationid`, `causationid` | the ids of the chain's first event and of the cause |
//! | `abehops`, `abepath` | how many handlers the chain has passed, and the topics, oldest first, with commas |
//! | `traceparent`, `tracestate` | the headers of these names |
//! | `abeheaders` | all headers, as the text of a JSON object; `null` where an attribute carries the value |
//!
//! Users' headers travel together in one attribute: none of them can be taken for a header that a broker acts on, names
//! need not fit the lower-case letters and digits of CloudEvents, and their order stays. What others send beyond the table
//! (another `source` or `dataschema`, `subject`, any extension) becomes a header with `ce-` before the
//! name, and that attribute again when the message is passed on. Members with names or values that CloudEvents does not
//! allow are passed over.

mod attributes;
mod cloudevents;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod columns;
mod envelope;
mod header_value;
#[cfg(test)]
mod hostile;
mod json;
#[cfg(test)]
mod tests;
mod time;

use std::time::SystemTime;

use bytes::Bytes;

pub use self::attributes::{ATTRIBUTE_BYTES_MAX, Attribute, attributes, from_attributes};
pub use self::cloudevents::to_cloudevent;
pub use self::envelope::to_envelope;
pub use self::header_value::{decode_header_value, encode_header_value};
use self::json::{Members, malformed};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Id, Message, PAYLOAD_BYTES_MAX};
use crate::topic::{Name, Topic};

/// The limits of reading, and what a message gets that does not say it itself.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The largest payload, in bytes. Default [`PAYLOAD_BYTES_MAX`].
    pub payload_bytes_max: usize,
    /// The id, such as the broker's own. Without it, and none in the message, every reading makes a new one.
    pub id: Option<Id>,
    /// The time, such as that of the broker.
    pub time: Option<SystemTime>,
    /// The topic, where the broker's address says it.
    pub topic: Option<Topic>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { payload_bytes_max: PAYLOAD_BYTES_MAX, id: None, time: None, topic: None }
    }
}

/// The `source` under which a group publishes.
pub fn source_of(group: &Name) -> String {
    format!("/abe-events/{group}")
}

/// Reads a message from CloudEvents JSON or from ABE's envelope, whichever it is.
///
/// The payload is a part of `bytes`, not a copy, unless it was encoded. An envelope of ABE has no id: see [`ReadOptions::id`].
///
/// # Errors
///
/// [`ErrorKind::Decode`] for what is neither, for JSON nested deeper than 128, a member that stands twice or a value that is
/// not what it must be; [`ErrorKind::InvalidName`] for a topic, id or header that is not allowed; [`ErrorKind::TooLarge`]
/// past a limit, before anything is decoded.
pub fn from_structured(bytes: &Bytes, options: &ReadOptions) -> Result<Message> {
    // Base64 makes three bytes four, an escape of JSON makes one six.
    let bytes_max = (options.payload_bytes_max / 3 + 1).saturating_mul(4).saturating_add(6 * ATTRIBUTE_BYTES_MAX);
    if bytes.len() > bytes_max {
        return Err(Error::new(ErrorKind::TooLarge, format!("message has {} bytes, at most {bytes_max} are allowed", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| malformed("message is not UTF-8").with_source(error))?;
    let members = Members::parse(text)?;
    if members.get("specversion").is_some() {
        cloudevents::read(bytes, &members, options)
    } else if envelope::is_envelope(&members) {
        envelope::read(bytes, &members, options)
    } else {
        Err(malformed("neither a CloudEvent (no specversion) nor an envelope (no version, type, data and meta)"))
    }
}

fn check_payload(bytes: usize, options: &ReadOptions) -> Result<()> {
    let max = options.payload_bytes_max;
    if bytes <= max {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TooLarge, format!("payload has {bytes} bytes, at most {max} are allowed")))
}
