//! A message as columns, and back.

use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::message::Message;
use crate::wire::columns::{attributes_of, build};

/// A message as it is stored in the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(super) id: String,
    pub(super) topic: String,
    pub(super) version: i32,
    pub(super) time_ms: i64,
    pub(super) key: Option<String>,
    /// A JSON list of names and values, where there is more to tell than the columns do.
    pub(super) attributes: Option<String>,
    pub(super) payload: Bytes,
    /// The shortest time from when it is published until it is handled.
    pub(super) delay_ms: i64,
}

impl Row {
    pub(super) fn of(message: &Message, delay: Duration) -> Result<Self> {
        Ok(Self {
            id: message.id().to_string(),
            topic: message.topic().as_str().to_owned(),
            version: message.version().cast_signed(),
            // The same 64 bits: no time is refused.
            time_ms: message.time_ms().cast_signed(),
            key: message.key().map(str::to_owned),
            attributes: attributes_of(message)?,
            payload: message.payload().to_bytes()?,
            delay_ms: super::millis(delay),
        })
    }

    /// The message again.
    ///
    /// # Errors
    ///
    /// For a row that somebody else wrote, and that is none.
    pub(super) fn message(&self) -> Result<Message> {
        let (version, key) = (self.version.cast_unsigned(), self.key.as_deref().map(Into::into));
        build(&self.id, &self.topic, version, self.time_ms, key, self.attributes.as_deref(), self.payload.clone())
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.delay_ms).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Headers, Lineage, Payload};
    use crate::topic::Topic;

    #[test]
    fn a_message_comes_back_whole() {
        let cause = Message::new(Topic::new("order.created").unwrap(), 3, Payload::from_bytes("{}"));
        let mut headers = Headers::new();
        headers.insert("tenant", "grüße").unwrap();
        let bare = Message::new(Topic::new("order.billed").unwrap(), 2, Payload::from_bytes(vec![0, 255, 0])).with_key(Some("a\0b".into()));
        let told = bare.clone().with_headers(headers).with_lineage(Some(Lineage::of_effect(&cause)));
        for message in [bare, told] {
            let row = Row::of(&message, Duration::from_secs(3)).unwrap();
            let read = row.message().unwrap();
            assert_eq!((read.id(), read.topic(), read.version(), read.key()), (message.id(), message.topic(), 2, Some("a\0b")));
            assert_eq!((read.headers(), read.time_ms(), read.hops()), (message.headers(), message.time_ms(), message.hops()));
            assert_eq!((read.correlation_id(), read.causation_id()), (message.correlation_id(), message.causation_id()));
            assert_eq!(read.payload().to_bytes().unwrap(), vec![0, 255, 0]);
            assert_eq!(row.delay(), Duration::from_secs(3));
        }
    }

    #[test]
    fn a_row_that_is_no_message_is_an_error() {
        let message = Message::new(Topic::new("a").unwrap(), 1, Payload::from_bytes("1"));
        let row = Row::of(&message, Duration::ZERO).unwrap();
        assert!(Row { topic: "no topic".into(), ..row.clone() }.message().is_err());
        assert!(Row { attributes: Some("{}".into()), ..row.clone() }.message().is_err());
        assert!(Row { id: String::new(), ..row }.message().is_err());
    }
}
