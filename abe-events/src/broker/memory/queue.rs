//! One subscription's queue: what waits, what is handed out, and what waits for its time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{ConsumerId, Depth, Failure, SubscriptionSpec};
use super::backlog::{Backlog, Chunk, Entry};
use super::budget::Load;
use super::delayed::Delayed;
use super::door::Door;
use super::gate::Gate;
use super::leases::Leases;
use super::quiet::Quiet;
use super::seat::Seat;
use super::waiters::Waiters;
use crate::message::Message;
use crate::policy::WhenFull;
use crate::sync::{Mutex, lock};
use crate::topic::Name;

/// A message with its history in this subscription.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) message: Message,
    /// Attempts that were started.
    pub(super) attempts: u32,
    pub(super) failures: Option<Arc<Vec<Failure>>>,
    /// Whether it counts as delayed; otherwise it counts against the buffer.
    pub(super) delayed: bool,
    /// Whether it is the one for which its key is busy.
    pub(super) owns_key: bool,
}

impl Item {
    pub(super) fn fresh(message: Message) -> Self {
        Self { message, attempts: 0, failures: None, delayed: false, owns_key: false }
    }

    pub(super) fn load(&self) -> Load {
        Load::one(self.message.weight())
    }
}

/// The queue. Publishers touch `buffer`, `backlog` and `waiters`, all without the lock; lanes take under it.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) group: Name,
    pub(super) name: Name,
    /// Bounds what is accepted and unfinished, except what is delayed.
    pub(super) buffer: Door,
    /// Bounds what waits for its time.
    pub(super) delayed: Door,
    pub(super) backlog: Backlog,
    /// Lanes that wait for a message.
    pub(super) waiters: Waiters,
    pub(super) state: Mutex<State>,
    pub(super) seats: Mutex<Vec<Arc<Seat>>>,
    pub(super) quiet: Arc<Quiet>,
    ordered: AtomicBool,
    when_full: AtomicU8,
    shed: AtomicU64,
    /// How many messages have ended here, acked or dead.
    ended: AtomicU64,
    closed: AtomicBool,
}

/// What only one lane at a time may touch. Never locked while foreign code runs: no message is dropped under it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What is left of an entry that did not fit the last hand-out.
    pub(super) rest: Option<Rest>,
    /// Given back, or let through by the gate: next in turn.
    pub(super) returned: VecDeque<Item>,
    pub(super) delayed: Delayed<Item>,
    pub(super) gate: Gate<Item>,
    pub(super) leases: Leases<Item>,
    /// The parked lane whose timer runs until the next due time or expiry.
    pub(super) keeper: Option<Keeper>,
}

#[derive(Debug)]
pub(super) enum Rest {
    Batch(std::vec::IntoIter<Message>),
    Chunk(Chunk),
}

/// The lane that keeps the time for all.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) consumer: ConsumerId,
    pub(super) lane: u32,
    pub(super) waker: Waker,
}

impl State {
    /// When something happens without anybody's doing.
    pub(super) fn next_event(&self) -> Option<Instant> {
        [self.delayed.first_due(), self.leases.first_expiry()].into_iter().flatten().min()
    }
}

impl Queue {
    pub(super) fn new(spec: &SubscriptionSpec, delayed: Load, quiet: Arc<Quiet>) -> Self {
        Self {
            group: spec.group.clone(),
            name: spec.name.clone(),
            buffer: Door::new(bound_of(spec)),
            delayed: Door::new(delayed),
            backlog: Backlog::new(spec.buffer as usize),
            waiters: Waiters::default(),
            state: Mutex::default(),
            seats: Mutex::default(),
            quiet,
            ordered: AtomicBool::new(spec.ordered),
            when_full: AtomicU8::new(spec.when_full as u8),
            shed: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes over what a later consumer says of the subscription; `false` when its order cannot be changed now.
    pub(super) fn adopt(&self, spec: &SubscriptionSpec) -> bool {
        if self.is_ordered() != spec.ordered {
            // The subscriptions' lock is held: no consumer comes in meanwhile.
            if !lock(&self.seats).is_empty() || self.depth().pending() > 0 {
                return false;
            }
            self.ordered.store(spec.ordered, Ordering::SeqCst);
        }
        self.buffer.budget.set_limit(bound_of(spec));
        self.buffer.serve();
        self.when_full.store(spec.when_full as u8, Ordering::Relaxed);
        true
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.ordered.load(Ordering::Relaxed)
    }

    pub(super) fn when_full(&self) -> WhenFull {
        match self.when_full.load(Ordering::Relaxed) {
            mode if mode == WhenFull::Fail as u8 => WhenFull::Fail,
            mode if mode == WhenFull::Shed as u8 => WhenFull::Shed,
            _ => WhenFull::Wait,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Stores an entry for which room was taken.
    #[inline(always)]
    pub(super) fn push(&self, entry: Entry) {
        let is_one = matches!(entry, Entry::One(_));
        self.backlog.push(entry);
        if is_one {
            self.waiters.notify_for(|| self.backlog.len());
        } else {
            self.waiters.notify_one();
        }
    }

    /// Stores a message for later, for which room was taken among the delayed.
    pub(super) fn push_delayed(&self, message: Message, delay: Duration) {
        self.delay(&mut lock(&self.state), Item { delayed: true, ..Item::fresh(message) }, delay).wake(self);
    }

    /// Puts an item among the delayed; the answer is to be woken after the lock.
    pub(super) fn delay(&self, state: &mut State, item: Item, delay: Duration) -> Wake {
        // A delay beyond what a clock can tell is as good as for ever.
        let now = Instant::now();
        let at = now.checked_add(delay).or_else(|| now.checked_add(FOR_EVER)).unwrap_or(now);
        if !state.delayed.push(at, item) {
            return Wake::Nobody;
        }
        state.keeper.as_ref().map_or(Wake::Anybody, |keeper| Wake::Keeper(keeper.waker.clone()))
    }

    /// Counts messages that were not stored because there was no room.
    pub(super) fn count_shed(&self, count: u64) {
        self.shed.fetch_add(count, Ordering::Relaxed);
    }

    /// Messages have ended: counts them, and gives their room back.
    pub(super) fn end_all(&self, load: Load) {
        self.ended.fetch_add(load.messages, Ordering::Relaxed);
        self.give_back(load);
    }

    /// Gives room back to publishers, and tells those who wait for quiet when nothing is left.
    pub(super) fn give_back(&self, load: Load) {
        if load.messages > 0 && self.buffer.give(load).messages == 0 {
            self.quiet.tell();
        }
    }

    pub(super) fn unsettled(&self) -> u64 {
        lock(&self.seats).iter().map(|seat| seat.unsettled()).sum()
    }

    pub(super) fn depth(&self) -> Depth {
        let unsettled = self.unsettled();
        let used = self.buffer.budget.used();
        let delayed = self.delayed.budget.used().messages;
        Depth {
            ready: used.messages.saturating_sub(unsettled),
            unsettled,
            delayed,
            shed: self.shed.load(Ordering::Relaxed),
            bytes: used.bytes,
            // Not counted one by one as they are published: what has ended is counted by the batch.
            accepted: self.ended.load(Ordering::Relaxed) + used.messages + delayed,
        }
    }

    /// Whether an idle lane would find something. What a publisher has taken room for and not stored yet counts.
    pub(super) fn has_something_to_take(&self) -> bool {
        let state = lock(&self.state);
        let waiting_for_keys = state.gate.items().filter(|item| !item.delayed).count() as u64;
        if !state.returned.is_empty() || state.rest.is_some() || !self.backlog.is_empty() {
            return true;
        }
        drop(state);
        let before = self.unsettled();
        let used = self.buffer.budget.used().messages;
        // A settlement between the two readings would hide a message.
        used > before + waiting_for_keys || self.unsettled() != before
    }

    /// When the next delayed message becomes due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        lock(&self.state).delayed.first_due()
    }

    /// Sends publishers and lanes away.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.buffer.close();
        self.delayed.close();
        self.wake_lanes();
    }

    /// Lets every parked lane look again.
    pub(super) fn wake_lanes(&self) {
        self.waiters.notify_all();
        let seats: Vec<Arc<Seat>> = lock(&self.seats).clone();
        for seat in seats {
            seat.room.notify_all();
        }
    }
}

/// Thirty years: longer than a process lives, shorter than what a timer takes.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

fn bound_of(spec: &SubscriptionSpec) -> Load {
    Load { messages: u64::from(spec.buffer), bytes: spec.buffer_bytes as u64 }
}

/// Whom to wake once the lock is free.
#[must_use = "the lane that keeps the time must learn of an earlier one"]
#[derive(Debug)]
pub(super) enum Wake {
    Nobody,
    Anybody,
    Keeper(Waker),
}

impl Wake {
    pub(super) fn wake(self, queue: &Queue) {
        match self {
            Self::Nobody => {}
            Self::Anybody => queue.waiters.notify_one(),
            Self::Keeper(waker) => waker.wake(),
        }
    }
}
