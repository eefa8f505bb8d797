//! A subscription as this process sees it: how much there is to do, and who waits for more.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::super::Depth;
use super::state::Subscription;

/// Shared by the consumers of a subscription and the writer.
#[derive(Debug, Default)]
pub(super) struct Live {
    pending: AtomicI64,
    unsettled: AtomicI64,
    delayed: AtomicI64,
    bytes: AtomicI64,
    accepted: AtomicI64,
    /// What had been accepted and had ended before this process came.
    before: AtomicI64,
    /// Lanes that look for something, or wait for it.
    pub(super) asking: AtomicUsize,
    pub(super) more: Notify,
}

impl Live {
    pub(super) fn new(row: &Subscription) -> Self {
        let live = Self { before: AtomicI64::new(row.accepted - row.pending), ..Self::default() };
        live.show(row);
        live
    }

    /// Takes over what was committed.
    pub(super) fn show(&self, row: &Subscription) {
        self.pending.store(row.pending, Ordering::Relaxed);
        self.unsettled.store(row.unsettled, Ordering::Relaxed);
        self.delayed.store(row.delayed, Ordering::Relaxed);
        self.bytes.store(row.bytes, Ordering::Relaxed);
        self.accepted.store(row.accepted, Ordering::Release);
    }

    pub(super) fn depth(&self) -> Depth {
        let read = |counter: &AtomicI64| u64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(0);
        let accepted = self.accepted.load(Ordering::Acquire) - self.before.load(Ordering::Relaxed);
        let (unsettled, delayed) = (read(&self.unsettled), read(&self.delayed));
        Depth {
            ready: read(&self.pending).saturating_sub(unsettled + delayed),
            unsettled,
            delayed,
            shed: 0,
            bytes: read(&self.bytes),
            accepted: u64::try_from(accepted).unwrap_or(0),
        }
    }

    /// Lets at most so many lanes look again.
    pub(super) fn wake(&self, lanes: usize) {
        // One more than seem to be there: a lane that is just about to ask finds the permit.
        for _ in 0..lanes.min(self.asking.load(Ordering::SeqCst) + 1) {
            self.more.notify_one();
        }
    }
}
