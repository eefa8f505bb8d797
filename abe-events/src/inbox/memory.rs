//! The inbox in memory: two generations of keys, bounded in time and number.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::Inbox;
use crate::broker::Answer;
use crate::error::Result;
use crate::handler::{InboxKey, Reservation};

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
    running: HashSet<InboxKey, RandomState>,
    young: HashSet<InboxKey, RandomState>,
    old: HashSet<InboxKey, RandomState>,
    /// When the young generation was begun.
    begun: Instant,
}

impl MemoryInbox {
    pub(crate) fn new(window: Duration) -> Self {
        let state = State { running: HashSet::default(), young: HashSet::default(), old: HashSet::default(), begun: Instant::now() };
        Self { window, state: Mutex::new(state) }
    }
}

impl State {
    fn retire(&mut self, window: Duration) {
        self.old = std::mem::take(&mut self.young);
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running.contains(key) {
            return Answer::ready(Ok(Reservation::Busy));
        }
        if state.young.contains(key) || state.old.contains(key) {
            // A clock read only where it decides: a key past its window is applied no longer.
            if state.begun.elapsed() < self.window {
                return Answer::ready(Ok(Reservation::Applied));
            }
            state.retire(self.window);
            if state.old.contains(key) {
                return Answer::ready(Ok(Reservation::Applied));
            }
        }
        state.running.insert(key.clone());
        Answer::ready(Ok(Reservation::Reserved))
    }

    fn finish(&self, mut keys: Vec<(InboxKey, bool)>) -> Answer<'_, Result<Vec<(InboxKey, bool)>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.young.len() >= GENERATION_KEYS_MAX || state.begun.elapsed() >= self.window {
            state.retire(self.window);
        }
        for (key, applied) in keys.drain(..) {
            state.running.remove(&key);
            if applied {
                state.young.insert(key);
            }
        }
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
        assert!(state.young.len() + state.old.len() <= 2 * GENERATION_KEYS_MAX && state.running.is_empty());
    }
}
