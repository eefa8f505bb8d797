//! Counters of one lane: written by the lane alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::Histogram;
use crate::broker::FailureKind;

/// What a lane counts. One writer, so an addition is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub(crate) struct LaneStats {
    pub(crate) succeeded: Count,
    pub(crate) filtered: Count,
    pub(crate) duplicates: Count,
    pub(crate) failed: Count,
    pub(crate) panicked: Count,
    pub(crate) timed_out: Count,
    pub(crate) retried: Count,
    pub(crate) dead: Count,
    pub(crate) discarded: Count,
    pub(crate) released: Count,
    pub(crate) leases_lost: Count,
    pub(crate) settle_failures: Count,
    pub(crate) batches: Count,
    /// Messages in attempts that began, and that ended.
    pub(crate) started: Count,
    pub(crate) ended: Count,
    /// Publishes of what handlers returned that began, and that ended.
    pub(crate) publishing: Count,
    pub(crate) published: Count,
    /// How long attempts took: of runs one each, of single deliveries all of the first 1,024 and then one in 16.
    pub(crate) latency: Histogram,
}

impl LaneStats {
    /// Whether the next attempt's time is to be taken.
    pub(crate) fn samples(&self) -> bool {
        let started = self.started.get();
        started < 1024 || started.is_multiple_of(16)
    }

    pub(crate) fn failure(&self, kind: FailureKind) {
        self.failed.add(1);
        match kind {
            FailureKind::Panic => self.panicked.add(1),
            FailureKind::Timeout => self.timed_out.add(1),
            _ => {}
        }
    }

    pub(crate) fn took(&self, time: Duration) {
        self.latency.record(time);
    }
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// So many less: what was counted did not happen after all.
    pub(crate) fn take_back(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
