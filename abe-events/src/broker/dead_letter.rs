//! What failed for good: kept with its bytes and every attempt's error, to be shown, replayed or purged.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Answer, Failure};
use crate::error::Result;
use crate::message::{Id, Message};
use crate::topic::Name;

/// A message that failed for good in one subscription.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The subscription's group.
    pub group: Name,
    /// The subscription's name.
    pub subscription: Name,
    /// The message as it was published: same id, payload and headers.
    pub message: Message,
    /// How many attempts were started.
    pub attempts: u32,
    /// Every attempt's failure, oldest first; the last one is the reason.
    pub failures: Arc<Vec<Failure>>,
    /// When it was given up.
    pub at: SystemTime,
}

impl DeadLetter {
    /// Why it was given up.
    pub fn reason(&self) -> &str {
        self.failures.last().map_or("", |failure| &failure.text)
    }
}

/// Which dead letters are meant; an empty filter means all.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Those of this subscription.
    pub subscription: Option<Name>,
    /// Those of this topic.
    pub topic: Option<String>,
    /// The one of this message.
    pub id: Option<Id>,
    /// At most so many, oldest first; 0 for no limit.
    pub limit: usize,
}

impl DeadLetterFilter {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// The one of this message, in every subscription in which it died.
    pub fn of(id: Id) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// Whether a dead letter is meant.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.subscription.as_ref().is_none_or(|name| *name == letter.subscription)
            && self.topic.as_ref().is_none_or(|topic| topic == letter.message.topic().as_str())
            && self.id.as_ref().is_none_or(|id| id == letter.message.id())
    }
}

/// The dead letters of a broker, one per subscription and message id.
pub trait DeadLetters: Send + Sync {
    /// How many there are.
    fn count(&self) -> Answer<'_, Result<u64>>;

    /// Those meant, oldest first.
    fn list<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<Vec<DeadLetter>>>;

    /// Hands those meant back to their own subscription, with the same id and a fresh attempt count, and says how many.
    /// A dead letter leaves the store only once its subscription holds the message.
    fn replay<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>>;

    /// Throws those meant away, and says how many.
    fn purge<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>>;
}
