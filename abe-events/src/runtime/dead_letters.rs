//! Dead letters for people and programs: list, show, replay, purge; the same on every broker.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::broker::{Broker, DeadLetter, DeadLetterFilter};
use crate::codec::{Codec, Json};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventDescriptor;
use crate::message::Id;

/// The dead letters of a runtime's broker; from [`Runtime::dead_letters`](crate::Runtime::dead_letters).
pub struct DeadLetterDesk<'a> {
    broker: &'a dyn Broker,
    events: &'a [&'static EventDescriptor],
}

impl<'a> DeadLetterDesk<'a> {
    pub(super) fn new(broker: &'a dyn Broker, events: &'a [&'static EventDescriptor]) -> Self {
        Self { broker, events }
    }

    /// How many there are.
    ///
    /// # Errors
    ///
    /// The broker's own, as for all methods here.
    pub async fn count(&self) -> Result<u64> {
        self.broker.dead_letters().count().await
    }

    /// Those meant, oldest first.
    pub async fn list(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>> {
        self.broker.dead_letters().list(filter).await
    }

    /// One in full, as text: what it is, its headers, every attempt's failure, and its payload with sensitive fields hidden.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Other`] when there is none of this id.
    pub async fn show(&self, id: &Id) -> Result<String> {
        let filter = DeadLetterFilter { id: Some(id.clone()), ..DeadLetterFilter::default() };
        let letters = self.list(&filter).await?;
        if letters.is_empty() {
            return Err(Error::new(ErrorKind::Other, format!("no dead letter has the id {id}")));
        }
        Ok(letters.iter().map(|letter| self.shown(letter)).collect::<Vec<_>>().join("\n\n"))
    }

    /// Hands those meant back to their own subscriptions, with the same id; answers how many.
    pub async fn replay(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.broker.dead_letters().replay(filter).await
    }

    /// The same, at most so many a second: a replay is a retry storm otherwise.
    ///
    /// # Cancel safety
    ///
    /// Dropped, what was replayed is replayed and the rest is still there: call it again.
    pub async fn replay_at_rate(&self, filter: &DeadLetterFilter, per_second: u32) -> Result<u64> {
        let pause = Duration::from_secs(1) / per_second.max(1);
        let mut replayed = 0;
        for letter in self.list(filter).await? {
            if replayed > 0 {
                tokio::time::sleep(pause).await;
            }
            let one = DeadLetterFilter {
                subscription: Some(letter.subscription.clone()),
                id: Some(letter.message.id().clone()),
                limit: 1,
                ..DeadLetterFilter::default()
            };
            replayed += self.replay(&one).await?;
        }
        Ok(replayed)
    }

    /// Throws those meant away; answers how many.
    pub async fn purge(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.broker.dead_letters().purge(filter).await
    }

    fn shown(&self, letter: &DeadLetter) -> String {
        let message = &letter.message;
        let mut text = format!(
            "{} v{} id {}\n  in {} (group {}) after {} attempts\n",
            message.topic(),
            message.version(),
            message.id(),
            letter.subscription,
            letter.group,
            letter.attempts
        );
        if let Some(key) = message.key() {
            let _ = writeln!(text, "  key {key:?}");
        }
        for (name, value) in message.headers().iter() {
            let _ = writeln!(text, "  header {name}: {value:?}");
        }
        for failure in letter.failures.iter() {
            let _ = writeln!(text, "  attempt {}: {}: {}", failure.attempt, failure.kind.as_str(), failure.text);
        }
        let _ = write!(text, "  payload {}", self.shown_payload(letter));
        text
    }

    fn shown_payload(&self, letter: &DeadLetter) -> String {
        let topic = letter.message.topic().as_str();
        let sensitive: Vec<&str> =
            self.events.iter().filter(|event| event.topic == topic).flat_map(|event| event.sensitive).copied().collect();
        let bytes = match letter.message.payload().to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => return format!("unavailable: {error}"),
        };
        if sensitive.is_empty() || crate::mutant::is("secrets-shown") {
            let content_type = letter.message.payload().content_type();
            let not_text = |_| format!("{} bytes of {content_type} that are not text", bytes.len());
            return std::str::from_utf8(&bytes).map_or_else(not_text, str::to_owned);
        }
        // Numbers and order may print otherwise than they came: this is for reading; the stored bytes are untouched.
        // Fields are known by their names in JSON alone: what another codec writes may look like JSON, and have none.
        let json = letter.message.payload().content_type() == Json::CONTENT_TYPE;
        match serde_json::from_slice::<Value>(&bytes).ok().filter(|_| json) {
            Some(mut value) => {
                hide(&mut value, &sensitive);
                value.to_string()
            }
            None => format!("{} bytes that are not JSON, hidden because {topic} has sensitive fields", bytes.len()),
        }
    }
}

/// Replaces the values of sensitive fields, at any depth: a wrong guess hides too much rather than too little.
/// The recursion is no deeper than the JSON parser's own limit of 128.
fn hide(value: &mut Value, sensitive: &[&str]) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if sensitive.contains(&name.as_str()) {
                    *value = Value::String("[sensitive]".into());
                } else {
                    hide(value, sensitive);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, sensitive)),
        _ => {}
    }
}

impl fmt::Debug for DeadLetterDesk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterDesk").field("broker", &self.broker).finish_non_exhaustive()
    }
}
