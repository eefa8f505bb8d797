//! A message as columns of a table, and back.

use bytes::Bytes;
use compact_str::CompactString;

use crate::error::Result;
use crate::message::Message;
use crate::topic::Topic;
use crate::wire::columns::attributes_of;

/// What a message is counted with beside its payload, for the bytes of a queue.
const OVERHEAD: i64 = 128;

/// A message as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) topic: Topic,
    pub(super) version: u32,
    pub(super) time_ms: i64,
    pub(super) key: Option<CompactString>,
    /// Only where there is more to tell than the columns do.
    pub(super) attributes: Option<String>,
    pub(super) payload: Bytes,
}

impl Stored {
    pub(super) fn of(message: &Message) -> Result<Self> {
        Ok(Self {
            id: message.id().to_string(),
            topic: message.topic().clone(),
            version: message.version(),
            // The same 64 bits: no time is refused.
            time_ms: message.time_ms().cast_signed(),
            key: message.key().map(CompactString::from),
            attributes: attributes_of(message)?,
            payload: message.payload().to_bytes()?,
        })
    }

    /// What it counts for in the bytes of a queue.
    pub(super) fn bytes(&self) -> i64 {
        bytes_of(self.payload.len())
    }
}

/// What a message counts for in the bytes of a queue.
pub(super) fn bytes_of(payload: usize) -> i64 {
    i64::try_from(payload).unwrap_or(i64::MAX / 2) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Headers, Lineage, Payload};
    use crate::wire::columns::build;

    #[test]
    fn a_message_with_a_story_comes_back_whole() {
        let cause = Message::new(Topic::new("order.created").unwrap(), 3, Payload::from_bytes("{}"));
        let mut headers = Headers::new();
        headers.insert("tenant", "grüße").unwrap();
        let message = Message::new(Topic::new("order.billed").unwrap(), 2, Payload::from_bytes(vec![0, 255, 0]))
            .with_key(Some("a\0b".into()))
            .with_headers(headers)
            .with_lineage(Some(Lineage::of_effect(&cause)));
        let stored = Stored::of(&message).unwrap();
        let read = build(
            &stored.id,
            stored.topic.as_str(),
            stored.version,
            stored.time_ms,
            stored.key.clone(),
            stored.attributes.as_deref(),
            stored.payload.clone(),
        )
        .unwrap();
        assert_eq!((read.id(), read.topic(), read.version(), read.key()), (message.id(), message.topic(), 2, Some("a\0b")));
        assert_eq!((read.headers(), read.time_ms(), read.hops()), (message.headers(), message.time_ms(), 1));
        assert_eq!((read.correlation_id(), read.causation_id()), (cause.id(), Some(cause.id())));
        assert_eq!(read.payload().to_bytes().unwrap(), vec![0, 255, 0]);
    }
}
