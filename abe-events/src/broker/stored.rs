//! A message and its failures as columns of a table, and back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use compact_str::CompactString;

use super::{Failure, FailureKind};
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

/// Failures as text: a JSON list of kind, text, attempt and time.
pub(super) fn failures_text(failures: &[Failure]) -> String {
    let list: Vec<(&str, &str, u32, u64)> = failures
        .iter()
        .map(|failure| {
            let at = failure.at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            (failure.kind.as_str(), failure.text.as_str(), failure.attempt, at)
        })
        .collect();
    serde_json::to_string(&list).unwrap_or_default()
}

/// The failures of such a text; none of one that cannot be read, as a message matters more than its story.
pub(super) fn failures_of(text: &str) -> Arc<Vec<Failure>> {
    let list: Vec<(String, String, u32, u64)> = serde_json::from_str(text).unwrap_or_default();
    let failure = |(kind, text, attempt, at): (String, String, u32, u64)| Failure {
        kind: kind_of(&kind),
        text,
        attempt,
        at: UNIX_EPOCH.checked_add(Duration::from_millis(at)).unwrap_or(SystemTime::UNIX_EPOCH),
    };
    Arc::new(list.into_iter().map(failure).collect())
}

fn kind_of(word: &str) -> FailureKind {
    use FailureKind as K;
    let known = [
        K::Error,
        K::Panic,
        K::Timeout,
        K::Permanent,
        K::Rejected,
        K::Undecodable,
        K::Version,
        K::Oversized,
        K::HopLimit,
        K::Publish,
        K::Crash,
    ];
    known.into_iter().find(|kind| kind.as_str() == word).unwrap_or(K::Error)
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

    #[test]
    fn every_kind_of_failure_comes_back() {
        let kinds = ["error", "panic", "timeout", "permanent", "rejected", "undecodable", "version", "oversized", "hop-limit", "publish"];
        for word in kinds.into_iter().chain(["crash"]) {
            assert_eq!(kind_of(word).as_str(), word);
        }
        let mut failure = Failure::new(FailureKind::Panic, 2, "\"quoted\" 🦀");
        failure.at = UNIX_EPOCH + Duration::from_millis(1_795_354_800_123);
        assert_eq!(*failures_of(&failures_text(std::slice::from_ref(&failure))), [failure]);
        assert!(failures_of("nonsense").is_empty());
    }
}
