//! Messages that wait for their time, the earliest first; of one time, in the order they came.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// Items by their due time.
#[derive(Debug)]
pub(super) struct Delayed<T> {
    heap: BinaryHeap<Due<T>>,
    next_number: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: Instant,
    number: u64,
    item: T,
}

impl<T> Default for Delayed<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next_number: 0 }
    }
}

impl<T> Delayed<T> {
    /// Adds an item, and says whether it is now the first that becomes due.
    pub(super) fn push(&mut self, at: Instant, item: T) -> bool {
        let first = self.first_due().is_none_or(|first| at < first);
        self.heap.push(Due { at, number: self.next_number, item });
        self.next_number += 1;
        first
    }

    /// The first item, if its time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.first_due()? > now && !crate::mutant::is("delay-ignored") {
            return None;
        }
        self.heap.pop().map(|due| due.item)
    }

    /// When the first item becomes due.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }
}

impl<T> Ord for Due<T> {
    /// The heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<T> Eq for Due<T> {}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_comes_first_never_early_and_equals_in_order() {
        let now = Instant::now();
        let later = |ms| now + Duration::from_millis(ms);
        let mut delayed = Delayed::default();
        assert!(delayed.push(later(20), 'c') && delayed.push(later(10), 'a') && !delayed.push(later(10), 'b'));
        assert_eq!(delayed.pop_due(later(9)), None);
        assert_eq!(delayed.first_due(), Some(later(10)));
        assert_eq!((delayed.pop_due(later(10)), delayed.pop_due(later(30)), delayed.pop_due(later(30))), (Some('a'), Some('b'), Some('c')));
        assert_eq!(delayed.pop_due(later(30)), None);
    }
}
