//! The payload: a typed value within the process, bytes when it came from outside.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::error::Result;

/// What a message carries. Shared, so that fan-out copies nothing.
#[derive(Clone)]
pub enum Payload {
    /// The event itself, handed over without serialization.
    Typed(Arc<dyn Body>),
    /// The event's bytes as they came.
    Encoded(Arc<Encoded>),
}

impl Payload {
    /// A payload of JSON bytes.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Encoded(Arc::new(Encoded { bytes: bytes.into(), decoded: OnceLock::new() }))
    }

    /// The bytes: as they came, or the typed value's JSON.
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
    /// The event's JSON.
    fn encode(&self) -> Result<Bytes>;

    /// Bytes for bounds: the shallow size.
    fn weight(&self) -> usize;
}

/// Bytes with the value that was decoded from them, so that several handlers of one event share one decode.
pub struct Encoded {
    bytes: Bytes,
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
