//! What is known of a consumer without a lock: how much it holds, and which of its lanes are idle.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::super::{ConsumerId, Token};
use super::waiters::Waiters;

/// One consumer's place at a queue.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) id: ConsumerId,
    pub(super) lease: Option<Duration>,
    pub(super) lanes: Box<[Lane]>,
    unsettled_max: u64,
    /// Raised under the queue's lock, lowered anywhere.
    unsettled: AtomicU64,
    closed: AtomicBool,
    /// Lanes that wait until this consumer holds less.
    pub(super) room: Waiters,
}

/// One lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Whether its `receive` is parked.
    pub(super) idle: AtomicBool,
    /// How many deliveries it holds.
    held: AtomicU32,
}

impl Seat {
    pub(super) fn new(id: ConsumerId, lanes: u32, unsettled_max: u32, lease: Option<Duration>) -> Self {
        Self {
            id,
            lease,
            lanes: (0..lanes.max(1)).map(|_| Lane::default()).collect(),
            unsettled_max: u64::from(unsettled_max.max(1)),
            unsettled: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            room: Waiters::default(),
        }
    }

    pub(super) fn unsettled(&self) -> u64 {
        self.unsettled.load(Ordering::SeqCst)
    }

    /// How many more deliveries it may hold.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.unsettled_max.saturating_sub(self.unsettled())).unwrap_or(usize::MAX)
    }

    /// A lane gets deliveries.
    pub(super) fn hand_out(&self, lane: u32, count: usize) {
        self.unsettled.fetch_add(count as u64, Ordering::SeqCst);
        if let Some(lane) = self.lanes.get(lane as usize) {
            lane.held.fetch_add(count as u32, Ordering::Relaxed);
        }
    }

    /// A lane's deliveries have ended; those who wait for room are woken.
    pub(super) fn take_back(&self, lane: u32, count: usize) {
        if self.forget(lane, count) {
            self.room.notify_one();
        }
    }

    /// A lane's deliveries have ended; the answer is whether somebody may wait for that.
    pub(super) fn forget(&self, lane: u32, count: usize) -> bool {
        if let Some(lane) = self.lanes.get(lane as usize) {
            lane.held.fetch_sub(count as u32, Ordering::Relaxed);
        }
        self.unsettled.fetch_sub(count as u64, Ordering::SeqCst) >= self.unsettled_max
    }

    /// The token of what is handed out without a lease: it names consumer and lane.
    pub(super) fn token(&self, lane: u32) -> Token {
        Token(self.id.0 << 32 | u64::from(lane))
    }

    /// The lane of such a token, if it is one of this consumer's.
    pub(super) fn lane_of(&self, token: Token) -> Option<u32> {
        let lane = (token.0 & 0xffff_ffff) as u32;
        (token.0 >> 32 == self.id.0 & 0xffff_ffff && (lane as usize) < self.lanes.len()).then_some(lane)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes it, and says whether it was open.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }
}

impl Lane {
    /// Whether its handler will run once more without anything new: a batch that is not full yet runs when it is old enough.
    pub(super) fn holds_something(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }
}
