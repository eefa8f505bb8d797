//! How much may be in a queue: messages and bytes, in one word, so that both are taken or neither.

use std::sync::atomic::Ordering;

use crate::sync::AtomicU64;

/// The low bits count bytes (up to 1 TiB), the high ones messages (up to 16 M).
const BYTES_BITS: u32 = 40;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;

/// The largest bound in messages; what is taken beyond a bound by force still fits the word.
pub(super) const MESSAGES_LIMIT: u64 = 1 << 22;

/// The largest bound in bytes.
pub(super) const BYTES_LIMIT: u64 = 1 << 38;

/// An amount of messages and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Load {
    /// One message of a weight.
    pub(super) fn one(weight: usize) -> Self {
        Self { messages: 1, bytes: weight as u64 }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn unpack(word: u64) -> Self {
        Self { messages: word >> BYTES_BITS, bytes: word & BYTES_MASK }
    }

    fn pack(self) -> u64 {
        (self.messages << BYTES_BITS) | self.bytes
    }

    /// Bytes stop at the end of their field: a liar's weights must not reach the count.
    fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages).min(u64::MAX >> BYTES_BITS),
            bytes: self.bytes.saturating_add(other.bytes).min(BYTES_MASK),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self { messages: self.messages.saturating_sub(other.messages), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// What is taken, and how much may be.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: Load) -> Self {
        Self { used: AtomicU64::new(0), limit: AtomicU64::new(clamp(limit).pack()) }
    }

    /// Sets another bound; what is taken beyond it stays taken.
    pub(super) fn set_limit(&self, limit: Load) {
        self.limit.store(clamp(limit).pack(), Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> Load {
        Load::unpack(self.limit.load(Ordering::Relaxed))
    }

    pub(super) fn used(&self) -> Load {
        Load::unpack(self.used.load(Ordering::SeqCst))
    }

    /// Takes the whole load if it fits. A single message that is larger than the bound fits when nothing else is there:
    /// otherwise it could never pass.
    pub(super) fn try_take(&self, load: Load) -> bool {
        self.take_within(load, self.limit())
    }

    /// Takes the load up to twice the bound and `extra` messages: what may be done about a cycle of publishers.
    pub(super) fn try_overdraw(&self, load: Load, extra: u64) -> bool {
        let limit = self.limit();
        self.take_within(load, Load { messages: limit.messages * 2 + extra, bytes: limit.bytes * 2 })
    }

    /// Takes the load whatever the bound says, for what was accepted before and only changes its place.
    pub(super) fn force(&self, load: Load) {
        let mut word = self.used.load(Ordering::Relaxed);
        while let Err(now) =
            self.used.compare_exchange_weak(word, Load::unpack(word).plus(load).pack(), Ordering::SeqCst, Ordering::Relaxed)
        {
            word = now;
        }
    }

    /// Gives a load back, and answers what is left.
    pub(super) fn give(&self, load: Load) -> Load {
        let mut word = self.used.load(Ordering::Relaxed);
        loop {
            let left = Load::unpack(word).minus(load);
            match self.used.compare_exchange_weak(word, left.pack(), Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return left,
                Err(now) => word = now,
            }
        }
    }

    fn take_within(&self, load: Load, limit: Load) -> bool {
        let mut word = self.used.load(Ordering::Relaxed);
        loop {
            let used = Load::unpack(word);
            let next = used.plus(load);
            let fits = next.messages <= limit.messages && (next.bytes <= limit.bytes || (used.messages == 0 && load.messages == 1));
            if !fits {
                return false;
            }
            match self.used.compare_exchange_weak(word, next.pack(), Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }
}

fn clamp(limit: Load) -> Load {
    Load { messages: limit.messages.clamp(1, MESSAGES_LIMIT), bytes: limit.bytes.clamp(1, BYTES_LIMIT) }
}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use super::*;

    fn load(messages: u64, bytes: u64) -> Load {
        Load { messages, bytes }
    }

    #[test]
    fn both_bounds_hold_and_what_is_given_back_can_be_taken_again() {
        let budget = Budget::new(load(2, 100));
        assert!(budget.try_take(load(1, 60)) && !budget.try_take(load(1, 41)) && budget.try_take(load(1, 40)));
        assert!(!budget.try_take(load(1, 0)), "two messages are the bound");
        assert_eq!(budget.give(load(1, 60)), load(1, 40));
        assert!(budget.try_take(load(1, 60)));
    }

    #[test]
    fn a_message_larger_than_the_bound_passes_alone() {
        let budget = Budget::new(load(8, 100));
        assert!(budget.try_take(load(1, 5_000)) && !budget.try_take(load(1, 1)));
        budget.give(load(1, 5_000));
        assert!(budget.try_take(load(1, 1)) && !budget.try_take(load(1, 5_000)));
    }

    #[test]
    fn force_and_overdraw_go_beyond_the_bound_and_bytes_never_reach_the_count() {
        let budget = Budget::new(load(1, 10));
        budget.force(load(3, u64::MAX));
        assert_eq!(budget.used(), load(3, BYTES_MASK));
        assert_eq!(budget.give(load(4, u64::MAX)), load(0, 0));
        assert!(budget.try_overdraw(load(3, 20), 1) && !budget.try_overdraw(load(1, 0), 1));
    }
}

#[cfg(all(test, abe_loom))]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn loom_a_bound_is_never_passed_and_nothing_is_left_taken() {
        loom::model(|| {
            let budget = Arc::new(Budget::new(Load { messages: 2, bytes: 3 }));
            let threads: Vec<_> = (1..=2u64)
                .map(|bytes| {
                    let budget = budget.clone();
                    loom::thread::spawn(move || {
                        let load = Load { messages: 1, bytes };
                        if budget.try_take(load) {
                            let used = budget.used();
                            assert!(used.messages <= 2 && used.bytes <= 3);
                            budget.give(load);
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(budget.used(), Load::default());
        });
    }
}
