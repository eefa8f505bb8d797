//! Order per key: while a message of a key is handed out or waits for its retry, later ones of that key wait here.

use std::collections::{HashMap, VecDeque};

use compact_str::CompactString;
use foldhash::fast::RandomState;

/// Keys that are busy, and what waits for each. The caller's budget bounds how much that is.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    busy: HashMap<CompactString, VecDeque<T>, RandomState>,
    /// Emptied queues, to be used again.
    spare: Vec<VecDeque<T>>,
}

/// How many emptied queues are kept.
const SPARE_MAX: usize = 64;

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { busy: HashMap::default(), spare: Vec::new() }
    }
}

impl<T> Gate<T> {
    /// Lets an item through and makes its key busy, or keeps it until the key is free.
    pub(crate) fn enter(&mut self, key: &str, item: T) -> Option<T> {
        if let Some(queue) = self.busy.get_mut(key) {
            queue.push_back(item);
            return None;
        }
        self.busy.insert(key.into(), self.spare.pop().unwrap_or_default());
        Some(item)
    }

    /// The item of a key has ended. The next one, if there is one, is let through and the key stays busy.
    pub(crate) fn leave(&mut self, key: &str) -> Option<T> {
        let next = self.busy.get_mut(key)?.pop_front();
        if next.is_none()
            && let Some(queue) = self.busy.remove(key)
            && self.spare.len() < SPARE_MAX
        {
            self.spare.push(queue);
        }
        next
    }

    /// What waits for a key.
    pub(crate) fn items(&self) -> impl Iterator<Item = &T> {
        self.busy.values().flatten()
    }
}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_free_only_after_its_last_item() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter("a", 1), Some(1));
        assert_eq!((gate.enter("a", 2), gate.enter("b", 3), gate.enter("a", 4)), (None, Some(3), None));
        assert_eq!(gate.items().count(), 2);
        assert_eq!((gate.leave("a"), gate.leave("b"), gate.leave("a")), (Some(2), None, Some(4)));
        assert_eq!(gate.enter("a", 5), None, "4 is still out");
        assert_eq!((gate.leave("a"), gate.leave("a"), gate.leave("a")), (Some(5), None, None));
        assert!(gate.busy.is_empty() && gate.items().count() == 0);
    }
}
