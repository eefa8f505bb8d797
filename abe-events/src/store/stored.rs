//! A message as columns, and back.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, Payload};
use crate::topic::Topic;
use crate::wire::{self, ReadOptions};

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
        if let Some(attributes) = &self.attributes {
            let list: Vec<(String, String)> =
                serde_json::from_str(attributes).map_err(|error| Error::new(ErrorKind::Decode, error.to_string()))?;
            // What was accepted is published, whatever the limit is today.
            let options = ReadOptions { payload_bytes_max: usize::MAX, ..ReadOptions::default() };
            return wire::from_attributes(list, self.payload.clone(), &options);
        }
        let time = UNIX_EPOCH + Duration::from_millis(self.time_ms.cast_unsigned());
        let payload = Payload::from_bytes(self.payload.clone());
        let message = Message::new(Topic::new(&self.topic)?, self.version.cast_unsigned(), payload);
        Ok(message.with_id(self.id.parse()?).with_time(time).with_key(self.key.as_deref().map(Into::into)))
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.delay_ms).unwrap_or_default())
    }
}

fn attributes_of(message: &Message) -> Result<Option<String>> {
    if message.lineage().is_none() && message.headers().is_empty() {
        return Ok(None);
    }
    let list = wire::attributes(message, "/abe-events/")?;
    let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
    serde_json::to_string(&list).map(Some).map_err(|error| Error::new(ErrorKind::Encode, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Headers, Lineage};

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
