//! What handlers count, by topic.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use abe_events::Topic;

/// Payloads handled, by topic.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<Topic, u64>>);

impl Tally {
    pub(crate) fn handled(&self, topic: &Topic) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(topic.clone()).or_default() += 1;
    }

    pub(crate) fn of(&self, topic: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied().unwrap_or(0)
    }
}
