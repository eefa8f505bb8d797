//! A message: an event as it travels, with its id, its attributes and its headers.
//!
//! In process the payload is the typed value itself, shared; bytes are made only when something leaves the process.

mod clock;
mod headers;
mod id;
mod lineage;
mod payload;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compact_str::CompactString;

use self::clock::now_ms;
pub(crate) use self::clock::tick_ms;
pub use self::headers::{HEADER_BYTES_MAX, HEADER_COUNT_MAX, Headers};
pub use self::id::Id;
pub(crate) use self::id::PlainId;
pub use self::lineage::Lineage;
pub(crate) use self::lineage::{Cause, PlainCause};
pub use self::payload::{Body, Encoded, Payload};
use crate::error::Result;
use crate::topic::Topic;

/// The largest payload, in bytes, unless configured otherwise.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// An event with everything that describes it.
///
/// Cheap to clone: the payload, headers and lineage are shared.
#[derive(Clone)]
pub struct Message {
    id: Id,
    topic: Topic,
    version: u32,
    /// Approximate bytes this message holds, for the byte bounds of queues.
    weight: u32,
    /// Milliseconds since the Unix epoch.
    time_ms: u64,
    key: Option<CompactString>,
    payload: Payload,
    lineage: Option<Arc<Lineage>>,
    headers: Option<Arc<Headers>>,
}

impl Message {
    /// A message of a topic with a new id and the present time.
    pub fn new(topic: Topic, version: u32, payload: Payload) -> Self {
        Self::at(now_ms(), topic, version, payload, None)
    }

    /// A message with a new id and a time that was read before. All at once: each `with_` would move it.
    #[inline(always)]
    pub(crate) fn at(now_ms: u64, topic: Topic, version: u32, payload: Payload, key: Option<CompactString>) -> Self {
        let id = Id::at(now_ms);
        Self {
            time_ms: id.time_ms().unwrap_or_default(),
            id,
            topic,
            version,
            weight: payload.weight(),
            key,
            payload,
            lineage: None,
            headers: None,
        }
    }

    /// A message of JSON bytes that came from elsewhere, as they are; they are read when a handler takes them.
    ///
    /// ```
    /// use abe_events::Message;
    ///
    /// let message = Message::json("order.created", 2, r#"{"order_id": 1}"#).unwrap();
    /// assert_eq!(message.topic().as_str(), "order.created");
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) for what is no topic.
    pub fn json(topic: &str, version: u32, bytes: impl Into<bytes::Bytes>) -> Result<Self> {
        Ok(Self::new(Topic::new(topic)?, version, Payload::from_bytes(bytes)))
    }

    /// The same message under an id of its origin; the id is what duplicates are recognised by.
    #[must_use]
    pub fn with_id(mut self, id: Id) -> Self {
        self.id = id;
        self
    }

    /// The same message with the time its event happened.
    #[must_use]
    pub fn with_time(mut self, time: SystemTime) -> Self {
        self.time_ms = time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// The same message with a key: what order and partition follow.
    #[must_use]
    pub fn with_key(mut self, key: Option<CompactString>) -> Self {
        self.key = key;
        self
    }

    /// The same message with headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = (!headers.is_empty()).then(|| Arc::new(headers));
        self
    }

    /// The same message with the chain of events that led to it.
    #[must_use]
    pub fn with_lineage(mut self, lineage: Option<Arc<Lineage>>) -> Self {
        self.lineage = lineage;
        self
    }

    /// What a message that it causes says of it.
    #[inline]
    pub(crate) fn as_cause(&self) -> Cause {
        Cause { id: self.id.clone(), topic: self.topic.clone(), lineage: self.lineage.clone() }
    }

    /// The same of a message that began its chain, if its id and topic can be copied.
    #[inline]
    pub(crate) fn as_plain_cause(&self) -> Option<PlainCause> {
        if self.lineage.is_some() {
            return None;
        }
        Some(PlainCause { id: self.id.as_plain()?, topic: self.topic.as_static()? })
    }

    /// Identity: stays the same over retries, relays and replays.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The topic it was published to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The version of the contract its payload was written in, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// When the event happened, in milliseconds. Of an event that was published without a time of its own it is the time of
    /// publishing, on Linux that of the system's last timer tick: up to 10 ms earlier.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time_ms)
    }

    /// [`Message::time`] in milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// What order and partition follow, if the event has a key.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The event itself.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The headers of the user; attributes of this crate are not among them.
    pub fn headers(&self) -> &Headers {
        self.headers.as_deref().unwrap_or(Headers::empty())
    }

    /// The chain of events that led to this one; `None` for one that began a chain.
    pub fn lineage(&self) -> Option<&Arc<Lineage>> {
        self.lineage.as_ref()
    }

    /// The id of the first event of the chain; its own id when it began the chain.
    pub fn correlation_id(&self) -> &Id {
        self.lineage.as_ref().map_or(&self.id, |lineage| lineage.correlation_id())
    }

    /// The id of the event whose handler published this one.
    pub fn causation_id(&self) -> Option<&Id> {
        self.lineage.as_ref().map(|lineage| lineage.causation_id())
    }

    /// How many handlers stand between this event and the one that began the chain.
    pub fn hops(&self) -> u32 {
        self.lineage.as_ref().map_or(0, |lineage| lineage.hops())
    }

    /// Approximate size in bytes, for bounds: the payload's bytes, or the shallow size of a typed value, and what describes it.
    pub fn weight(&self) -> usize {
        self.weight as usize + size_of::<Self>() + self.headers.as_ref().map_or(0, |headers| headers.bytes())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload may hold what must not reach a log.
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("version", &self.version)
            .field("key", &self.key)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_no_larger_than_what_four_wide_moves_copy() {
        assert_eq!((size_of::<Topic>(), size_of::<Payload>(), size_of::<Message>()), (16, 16, 104));
    }
}
