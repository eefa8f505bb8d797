//! How an event becomes bytes: [`Json`], unless `#[event(codec = ...)]` names another [`Codec`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;

/// The content type of [`Json`], and of every message that says nothing else.
pub(crate) const JSON: &str = "application/json";

/// A form of bytes for events, such as CBOR or MessagePack: anything that serde can write and read.
///
/// An event has one codec for its version, named by `#[event(codec = ...)]`; [`Json`] without it. Another codec is another
/// form on the wire: give the event a new version with it, and `upcast_from` reads what was written before.
///
/// ```
/// # #[cfg(feature = "macros")]
/// # mod example {
/// use abe_events::{BoxError, Codec, event};
/// use serde::{Serialize, de::DeserializeOwned};
///
/// struct Toml;
///
/// impl Codec for Toml {
///     const CONTENT_TYPE: &'static str = "application/toml";
///
///     fn encode<T: Serialize>(event: &T) -> Result<Vec<u8>, BoxError> {
///         Ok(toml::to_string(event)?.into_bytes())
///     }
///
///     fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
///         Ok(toml::from_str(std::str::from_utf8(bytes)?)?)
///     }
/// }
///
/// #[event(topic = "order.created", codec = Toml)]
/// struct OrderCreated { order_id: u64 }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a codec",
    label = "does not implement `abe_events::Codec`",
    note = "`codec` names a type that implements `Codec`, with a content type, `encode` and `decode`; without `codec` an event is JSON"
)]
pub trait Codec: 'static {
    /// What the bytes are, as a media type such as `application/cbor`: it travels with the message as `datacontenttype`.
    ///
    /// Printable ASCII without spaces and with a `/`, at most 100 bytes long; else an event with this codec does not compile.
    const CONTENT_TYPE: &'static str;

    /// The bytes of an event.
    ///
    /// # Errors
    ///
    /// Whatever makes the event unwritable; `publish` to a broker that stores bytes fails with [`ErrorKind::Encode`](crate::ErrorKind::Encode).
    fn encode<T: Serialize>(event: &T) -> Result<Vec<u8>, BoxError>;

    /// The event of bytes that anybody may have written: bounded in depth and memory, whatever they are.
    ///
    /// # Errors
    ///
    /// What is wrong with them: the message is a dead letter at once. The text is kept with it, unless the event has sensitive
    /// fields; it must not quote the payload.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError>;
}

/// JSON, as `serde_json` writes and reads it: the codec of every event that names no other.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: &'static str = JSON;

    #[inline]
    fn encode<T: Serialize>(event: &T) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(event)?)
    }

    #[inline]
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Whether a text can be a content type: it becomes a header on the wire, and a word in reports.
pub(crate) const fn is_content_type(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut slashes) = (0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_graphic() {
            return false;
        }
        slashes += (bytes[at] == b'/') as usize;
        at += 1;
    }
    bytes.len() <= 100 && slashes == 1 && bytes[0] != b'/' && bytes[bytes.len() - 1] != b'/'
}

#[cfg(test)]
mod tests {
    use super::is_content_type;

    #[test]
    fn a_content_type_is_a_word_with_a_slash() {
        for good in ["application/json", "application/vnd.shop+cbor", "text/csv;charset=utf-8", "a/b"] {
            assert!(is_content_type(good), "{good}");
        }
        for bad in ["", "/", "json", "a/", "/b", "a/b/c", "a /b", "a/b\r\nx: y", "größe/b", &"a/".repeat(51)] {
            assert!(!is_content_type(bad), "{bad:?}");
        }
    }
}
