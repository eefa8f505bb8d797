//! The inbox in memory: two generations of keys, bounded in time and number.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use compact_str::CompactString;
use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::Inbox;
use crate::broker::Answer;
use crate::error::Result;
use crate::handler::{InboxKey, Reservation};
use crate::message::{Id, Message};

/// How many applied keys a generation holds before it is retired early.
const GENERATION_KEYS_MAX: usize = 262_144;

/// Remembers applied keys for at least the window, and for at most twice as long; under more than
/// [`GENERATION_KEYS_MAX`] keys per window it remembers at least that many.
pub(crate) struct MemoryInbox {
    window: Duration,
    /// Never held while user code runs: a panic cannot leave it half-changed.
    state: Mutex<State>,
}

struct State {
    /// Reserved and not decided. All of them are in the young generation as well.
    running: Keys,
    young: Keys,
    old: Keys,
    /// When the young generation was begun.
    begun: Instant,
}

/// A set of keys; ids, which have two words, apart from texts.
#[derive(Debug, Clone, Default)]
struct Keys {
    ids: HashSet<Id, RandomState>,
    texts: HashSet<CompactString, RandomState>,
}

impl Keys {
    fn len(&self) -> usize {
        self.ids.len() + self.texts.len()
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.texts.clear();
    }

    fn contains(&self, key: Key<'_>) -> bool {
        match key {
            Key::Id(id) => self.ids.contains(id),
            Key::Text(text) => self.texts.contains(text),
        }
    }

    /// Adds a key, and says whether it is new.
    #[inline]
    fn insert(&mut self, key: Key<'_>) -> bool {
        match key {
            Key::Id(id) => self.ids.insert(id.clone()),
            Key::Text(text) => !self.texts.contains(text) && self.texts.insert(text.clone()),
        }
    }

    #[inline]
    fn remove(&mut self, key: Key<'_>) {
        match key {
            Key::Id(id) => self.ids.remove(id),
            Key::Text(text) => self.texts.remove(text),
        };
    }
}

/// A borrowed [`InboxKey`].
#[derive(Clone, Copy)]
enum Key<'a> {
    Id(&'a Id),
    Text(&'a CompactString),
}

impl<'a> From<&'a InboxKey> for Key<'a> {
    fn from(key: &'a InboxKey) -> Self {
        match key {
            InboxKey::Id(id) => Self::Id(id),
            InboxKey::Text(text) => Self::Text(text),
        }
    }
}

impl MemoryInbox {
    pub(crate) fn new(window: Duration) -> Self {
        let state = State { running: Keys::default(), young: Keys::default(), old: Keys::default(), begun: Instant::now() };
        Self { window, state: Mutex::new(state) }
    }

    /// Reserves the ids of the first messages: as many as are neither applied nor reserved.
    pub(crate) fn reserve_run(&self, messages: &[Message]) -> usize {
        let mut state = self.lock();
        let reserved = |message: &Message| state.reserve(Key::Id(message.id()), self.window) == Reservation::Reserved;
        messages.iter().map(reserved).take_while(|reserved| *reserved).count()
    }

    /// Ends the reservations of messages that were applied.
    pub(crate) fn applied_run(&self, messages: &[Message]) {
        let mut state = self.lock();
        messages.iter().for_each(|message| state.finish(Key::Id(message.id()), true));
        state.retire_if_due(self.window);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Most keys are new: then they are looked up once in each generation, and that is all.
    #[inline]
    fn reserve(&mut self, key: Key<'_>, window: Duration) -> Reservation {
        if self.old.len() > 0 && self.old.contains(key) || !self.young.insert(key) {
            return self.known(key, window);
        }
        self.running.insert(key);
        Reservation::Reserved
    }

    #[cold]
    fn known(&mut self, key: Key<'_>, window: Duration) -> Reservation {
        if self.running.contains(key) {
            return Reservation::Busy;
        }
        // A clock read only where it decides: a key past its window is applied no longer.
        if self.begun.elapsed() < window {
            return Reservation::Applied;
        }
        self.retire(window);
        if self.old.contains(key) {
            return Reservation::Applied;
        }
        self.young.insert(key);
        self.running.insert(key);
        Reservation::Reserved
    }

    #[inline]
    fn finish(&mut self, key: Key<'_>, applied: bool) {
        self.running.remove(key);
        if !applied {
            self.young.remove(key);
        }
    }

    fn retire_if_due(&mut self, window: Duration) {
        if self.young.len() >= GENERATION_KEYS_MAX || self.begun.elapsed() >= window {
            self.retire(window);
        }
    }

    fn retire(&mut self, window: Duration) {
        // What is not decided yet is remembered from when it is.
        // The memory of what is forgotten goes round.
        std::mem::swap(&mut self.old, &mut self.young);
        self.young.clear();
        self.young.ids.extend(self.running.ids.iter().cloned());
        self.young.texts.extend(self.running.texts.iter().cloned());
        self.old.ids.retain(|id| !self.running.ids.contains(id));
        self.old.texts.retain(|text| !self.running.texts.contains(text));
        let now = Instant::now();
        if now.duration_since(self.begun) >= window.saturating_mul(2) {
            // Nothing was applied for a whole window: the young generation is past its time as well.
            self.old.clear();
        }
        self.begun = now;
    }
}

impl Inbox for MemoryInbox {
    fn reserve<'a>(&'a self, key: &'a InboxKey) -> Answer<'a, Result<Reservation>> {
        Answer::ready(Ok(self.lock().reserve(key.into(), self.window)))
    }

    fn in_memory(&self) -> Option<&MemoryInbox> {
        Some(self)
    }

    fn finish(&self, mut keys: Vec<(InboxKey, bool)>) -> Answer<'_, Result<Vec<(InboxKey, bool)>>> {
        let mut state = self.lock();
        for (key, applied) in keys.drain(..) {
            state.finish((&key).into(), applied);
        }
        state.retire_if_due(self.window);
        Answer::ready(Ok(keys))
    }
}

impl fmt::Debug for MemoryInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryInbox").field("window", &self.window).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> InboxKey {
        InboxKey::Text(text.into())
    }

    async fn apply(inbox: &MemoryInbox, text: &str, applied: bool) {
        assert_eq!(inbox.reserve(&key(text)).await.unwrap(), Reservation::Reserved);
        inbox.finish(vec![(key(text), applied)]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_busy_then_applied_and_released_on_failure() {
        let inbox = MemoryInbox::new(Duration::from_secs(60));
        assert_eq!(inbox.reserve(&key("a")).await.unwrap(), Reservation::Reserved);
        assert_eq!(inbox.reserve(&key("a")).await.unwrap(), Reservation::Busy);
        inbox.finish(vec![(key("a"), false)]).await.unwrap();
        apply(&inbox, "a", true).await;
        assert_eq!(inbox.reserve(&key("a")).await.unwrap(), Reservation::Applied);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_for_its_window_and_forgotten_after_twice_that() {
        let inbox = MemoryInbox::new(Duration::from_secs(60));
        apply(&inbox, "a", true).await;
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(inbox.reserve(&key("a")).await.unwrap(), Reservation::Applied);
        tokio::time::advance(Duration::from_secs(62)).await;
        assert_eq!(inbox.reserve(&key("a")).await.unwrap(), Reservation::Reserved);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_keys_is_bounded() {
        let inbox = MemoryInbox::new(Duration::from_secs(3600));
        for n in 0..3 * GENERATION_KEYS_MAX {
            let key = InboxKey::Text(compact_str::format_compact!("{n}"));
            assert_eq!(inbox.reserve(&key).await.unwrap(), Reservation::Reserved);
            inbox.finish(vec![(key, true)]).await.unwrap();
        }
        let state = inbox.state.lock().unwrap();
        assert!(state.young.len() + state.old.len() <= 2 * GENERATION_KEYS_MAX && state.running.len() == 0);
    }
}
