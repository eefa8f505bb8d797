//! The payload: a typed value within the process, bytes when it came from outside.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::codec::JSON;
use crate::error::{Error, ErrorKind, Result};

/// What a message carries. Shared, so that fan-out copies nothing.
#[derive(Clone)]
pub enum Payload {
    /// The event itself, handed over without serialization.
    Typed(Arc<dyn Body>),
    /// The event's bytes as they came.
    Encoded(Arc<Encoded>),
}

impl Payload {
    /// A payload of JSON bytes, or of bytes of which nobody said what they are.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Encoded(Arc::new(Encoded { bytes: bytes.into(), content_type: None, decoded: OnceLock::new() }))
    }

    /// A payload of bytes of another form, such as `application/cbor`. A typed handler reads it by its event's codec, whatever
    /// is said here.
    ///
    /// ```
    /// use abe_events::Payload;
    ///
    /// let payload = Payload::of_type("text/csv", "1;2;3").unwrap();
    /// assert_eq!(payload.content_type(), "text/csv");
    /// assert_eq!(Payload::from_bytes("{}").content_type(), "application/json");
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) for a content type that is empty, longer than 1024 bytes, or
    /// has a control character.
    pub fn of_type(content_type: &str, bytes: impl Into<Bytes>) -> Result<Self> {
        if content_type.is_empty() || content_type.len() > 1024 || content_type.chars().any(char::is_control) {
            let text = "a content type has 1 to 1024 bytes and no control characters";
            return Err(Error::new(ErrorKind::InvalidName, text));
        }
        let content_type = (content_type != JSON).then(|| content_type.into());
        Ok(Self::Encoded(Arc::new(Encoded { bytes: bytes.into(), content_type, decoded: OnceLock::new() })))
    }

    /// What the bytes are, as a media type: that of the event's codec, or what came with them; else `application/json`.
    pub fn content_type(&self) -> &str {
        match self {
            Self::Typed(body) => body.content_type(),
            Self::Encoded(encoded) => encoded.content_type.as_deref().unwrap_or(JSON),
        }
    }

    /// The bytes: as they came, or the typed value's, by its event's codec.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode) when the typed value cannot be serialized.
    pub fn to_bytes(&self) -> Result<Bytes> {
        match self {
            Self::Typed(body) => body.encode(),
            Self::Encoded(encoded) => Ok(encoded.bytes.clone()),
        }
    }

    /// Bytes for bounds: the payload's length, or the shallow size of a typed value.
    pub(crate) fn weight(&self) -> u32 {
        let bytes = match self {
            Self::Typed(body) => body.weight(),
            Self::Encoded(encoded) => encoded.bytes.len(),
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the contents: they may be secret.
        match self {
            Self::Typed(_) => f.write_str("Typed(..)"),
            Self::Encoded(encoded) => write!(f, "Encoded({} bytes)", encoded.bytes.len()),
        }
    }
}

/// A typed value that can become bytes; implemented for every [`Event`](crate::Event).
pub trait Body: Any + Send + Sync {
    /// The event's bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode) when the event's codec cannot write it.
    fn encode(&self) -> Result<Bytes>;

    /// What these bytes are, as a media type.
    fn content_type(&self) -> &'static str;

    /// Bytes for bounds: the shallow size.
    fn weight(&self) -> usize;
}

/// Bytes with the value that was decoded from them, so that several handlers of one event share one decode.
pub struct Encoded {
    bytes: Bytes,
    /// What they are, if not JSON.
    content_type: Option<Box<str>>,
    /// The first type it was decoded to; another type decodes on its own.
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Encoded {
    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The value decoded as `T`, by `decode` if no handler did so before.
    pub(crate) fn decoded<T: Any + Send + Sync, E>(&self, decode: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<Arc<T>, E> {
        if let Some(Ok(known)) = self.decoded.get().map(|known| known.clone().downcast::<T>()) {
            return Ok(known);
        }
        let value = Arc::new(decode(&self.bytes)?);
        let _ = self.decoded.set(value.clone());
        Ok(value)
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({} bytes)", self.bytes.len())
    }
}
