//! What is handed out under a lease: who may settle it, until when, and a copy to hand out again.

use slab::Slab;
use tokio::time::Instant;

use super::super::{ConsumerId, Token};

/// A delivery under a lease.
#[derive(Debug)]
pub(super) struct Lease<T> {
    pub(super) item: T,
    pub(super) consumer: ConsumerId,
    pub(super) lane: u32,
    pub(super) until: Instant,
}

#[derive(Debug)]
struct Slot<T> {
    lease: Lease<T>,
    generation: u32,
    /// Neighbours in the order of expiry.
    earlier: Option<usize>,
    later: Option<usize>,
}

/// All leases of one consumer's duration: given out and renewed at the same distance, they expire in the order of a list.
#[derive(Debug)]
pub(super) struct Leases<T> {
    slots: Slab<Slot<T>>,
    next_generation: u32,
    earliest: Option<usize>,
    latest: Option<usize>,
}

impl<T> Default for Leases<T> {
    fn default() -> Self {
        Self { slots: Slab::new(), next_generation: 0, earliest: None, latest: None }
    }
}

impl<T> Leases<T> {
    /// Gives a lease. A slot that is used again has another generation, so that an old token opens nothing.
    pub(super) fn give(&mut self, lease: Lease<T>) -> Token {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let at = self.slots.insert(Slot { lease, generation, earlier: None, later: None });
        self.link(at);
        Token(u64::from(generation) << 32 | at as u64 & 0xffff_ffff)
    }

    /// The lease of a token, if it stands.
    pub(super) fn get(&self, token: Token) -> Option<&Lease<T>> {
        self.find(token).map(|at| &self.slots[at].lease)
    }

    /// Ends a lease.
    pub(super) fn take(&mut self, token: Token) -> Option<Lease<T>> {
        let at = self.find(token)?;
        self.remove(at)
    }

    /// Lets a lease last longer; `false` when it does not stand.
    pub(super) fn renew(&mut self, token: Token, until: Instant) -> bool {
        let Some(at) = self.find(token) else { return false };
        self.unlink(at);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.lease.until = until;
        }
        self.link(at);
        true
    }

    /// Ends the first lease whose time is over.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Lease<T>> {
        let at = self.earliest?;
        if self.slots.get(at)?.lease.until > now {
            return None;
        }
        self.remove(at)
    }

    /// Ends one lease of a consumer that is gone.
    pub(super) fn pop_of(&mut self, consumer: ConsumerId) -> Option<Lease<T>> {
        let mut next = self.earliest;
        while let Some(at) = next {
            let slot = self.slots.get(at)?;
            if slot.lease.consumer == consumer {
                return self.remove(at);
            }
            next = slot.later;
        }
        None
    }

    /// When the first lease expires.
    pub(super) fn first_expiry(&self) -> Option<Instant> {
        self.slots.get(self.earliest?).map(|slot| slot.lease.until)
    }

    fn find(&self, token: Token) -> Option<usize> {
        let at = usize::try_from(token.0 & 0xffff_ffff).ok()?;
        (u64::from(self.slots.get(at)?.generation) == token.0 >> 32 || crate::mutant::is("token-unchecked")).then_some(at)
    }

    fn remove(&mut self, at: usize) -> Option<Lease<T>> {
        self.unlink(at);
        self.slots.try_remove(at).map(|slot| slot.lease)
    }

    /// Puts a slot behind the last that does not expire later than it; usually that is the very last.
    fn link(&mut self, at: usize) {
        let until = self.slots[at].lease.until;
        let mut earlier = self.latest;
        while let Some(other) = earlier
            && self.slots[other].lease.until > until
        {
            earlier = self.slots[other].earlier;
        }
        let later = match earlier {
            Some(other) => self.slots[other].later.replace(at),
            None => self.earliest.replace(at),
        };
        match later {
            Some(other) => self.slots[other].earlier = Some(at),
            None => self.latest = Some(at),
        }
        self.slots[at].earlier = earlier;
        self.slots[at].later = later;
    }

    fn unlink(&mut self, at: usize) {
        let (earlier, later) = (self.slots[at].earlier, self.slots[at].later);
        match earlier {
            Some(other) => self.slots[other].later = later,
            None => self.earliest = later,
        }
        match later {
            Some(other) => self.slots[other].earlier = earlier,
            None => self.latest = earlier,
        }
    }
}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn leases_expire_in_order_and_old_tokens_open_nothing() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let lease = |item, ms| Lease { item, consumer: ConsumerId(1), lane: 0, until: at(ms) };
        let mut leases = Leases::default();
        let (a, b, c) = (leases.give(lease('a', 10)), leases.give(lease('b', 20)), leases.give(lease('c', 15)));
        assert!(leases.renew(a, at(30)));
        assert_eq!(leases.first_expiry(), Some(at(15)));
        assert!(leases.pop_expired(at(14)).is_none());
        let expired: Vec<char> = std::iter::from_fn(|| leases.pop_expired(at(20)).map(|lease| lease.item)).collect();
        assert_eq!(expired, ['c', 'b']);
        let d = leases.give(lease('d', 40));
        assert!(leases.take(b).is_none() && leases.take(c).is_none() && !leases.renew(c, at(50)));
        assert_eq!(leases.get(d).map(|lease| lease.item), Some('d'));
        assert_eq!(leases.take(a).map(|lease| lease.item), Some('a'));
        assert_eq!((leases.pop_of(ConsumerId(2)).is_none(), leases.pop_of(ConsumerId(1)).is_some()), (true, true));
        assert!(leases.slots.is_empty() && leases.earliest.is_none() && leases.latest.is_none());
    }
}
