//! What cases are written with: faults, messages, verdicts, and comparisons that say what they expected.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::timeout;

use crate::broker::{Delivery, Failure, FailureKind, Messages, Outgoing, Verdict};
use crate::{ErrorKind, Id, Message, Payload, Topic};

/// What a case ends with.
pub(crate) type Check<T = ()> = Result<T, Fault>;

/// Why a case failed. Any error becomes one by `?`.
pub(crate) struct Fault(pub(crate) String);

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: fmt::Display> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Ends the case with a text unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        // Negated as a whole: an author writes what must hold.
        if !$holds {
            return Err($crate::conformance::tools::Fault(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

/// A message that was received, and which attempt it was.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
}

impl Got {
    /// What a delivery holds.
    pub(crate) fn of(delivery: &Delivery) -> Self {
        Self { message: delivery.message.clone(), attempt: delivery.attempt }
    }

    /// The message's id.
    pub(crate) fn id(&self) -> &Id {
        self.message.id()
    }
}

/// The answer, or a fault that names what did not come in time.
pub(crate) async fn within<T>(what: &str, time: Duration, future: impl Future<Output = T>) -> Check<T> {
    timeout(time, future).await.map_err(|_late| Fault(format!("{what} did not come within {time:?}")))
}

/// One message on its way.
pub(crate) fn single(message: Message) -> Outgoing {
    Outgoing { messages: Messages::One(message), delay: Duration::ZERO, origin: None }
}

/// A message with bytes.
pub(crate) fn message(topic: &Topic, payload: impl Into<Vec<u8>>) -> Message {
    Message::new(topic.clone(), 1, Payload::from_bytes(payload.into()))
}

/// A message with bytes and a key.
pub(crate) fn keyed(topic: &Topic, key: &str, payload: impl Into<Vec<u8>>) -> Message {
    message(topic, payload).with_key(Some(key.into()))
}

/// Messages whose payloads are their numbers.
pub(crate) fn numbered(topic: &Topic, n: usize) -> Vec<Message> {
    (0..n).map(|i| message(topic, i.to_string())).collect()
}

/// A failure with a text.
pub(crate) fn failure(attempt: u32, text: &str) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Error, attempt, text))
}

/// A failed attempt, to be tried again at once.
pub(crate) fn retry_now(attempt: u32) -> Verdict {
    Verdict::Retry { after: Duration::ZERO, failure: failure(attempt, "told to fail") }
}

/// A failed attempt, to be tried again later.
pub(crate) fn retry_after(attempt: u32, after: Duration) -> Verdict {
    Verdict::Retry { after, failure: failure(attempt, "told to fail") }
}

/// A message given up.
pub(crate) fn give_up(attempt: u32, text: &str) -> Verdict {
    Verdict::DeadLetter { failure: failure(attempt, text) }
}

/// The ids of messages, in order.
pub(crate) fn ids<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<Id> {
    messages.into_iter().map(|message| message.id().clone()).collect()
}

/// The same ids, each as often, in any order.
pub(crate) fn same_ids(sent: &[Message], got: &[Got]) -> Check {
    same_sets(sent.iter().map(Message::id), got.iter().map(Got::id))
}

/// The same ids, each as often, in any order.
pub(crate) fn same_sets<'m>(want: impl IntoIterator<Item = &'m Id>, got: impl IntoIterator<Item = &'m Id>) -> Check {
    let mut balance: BTreeMap<&Id, i64> = BTreeMap::new();
    want.into_iter().for_each(|id| *balance.entry(id).or_default() += 1);
    got.into_iter().for_each(|id| *balance.entry(id).or_default() -= 1);
    let missing: Vec<_> = balance.iter().filter(|(_, left)| **left > 0).map(|(id, _)| id).collect();
    let extra: Vec<_> = balance.iter().filter(|(_, left)| **left < 0).map(|(id, _)| id).collect();
    ensure!(
        missing.is_empty() && extra.is_empty(),
        "{} missing (first {:?}), {} too many (first {:?})",
        missing.len(),
        missing.first(),
        extra.len(),
        extra.first()
    );
    Ok(())
}

/// An error of a kind.
pub(crate) fn is_kind<T>(what: &str, answer: Result<T, crate::Error>, kind: ErrorKind) -> Check {
    match answer {
        Ok(_) => Err(Fault(format!("{what} must fail with {kind:?}, but succeeded"))),
        Err(error) => {
            ensure!(error.kind() == kind, "{what} must fail with {kind:?}, but failed with {error:?}");
            Ok(())
        }
    }
}
