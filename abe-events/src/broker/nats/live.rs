//! What this process knows of a subscription, and how much it believes there is to do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::super::Depth;
use super::feed::Feed;
use super::names::Place;
use super::record::Table;

/// How long after its time a retry is still believed to come to this process.
const OVERDUE: Duration = Duration::from_secs(60);

/// A subscription, as long as this process is there.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) place: Place,
    table: Mutex<Arc<Table>>,
    pub(super) feeds: Mutex<Vec<Weak<Feed>>>,
    /// What waits for its time or its turn after it was given back, by number.
    waiting: Mutex<HashMap<u64, Instant>>,
    ready: AtomicI64,
    /// Unsettled in other processes, as the server last told.
    elsewhere: AtomicI64,
    ended: AtomicU64,
    /// Being settled: no longer in anybody's hands, and not ended yet.
    settling: AtomicU64,
    changes: AtomicU64,
    bytes: AtomicU64,
    counted: AtomicU64,
}

/// Settlements on their way.
pub(super) struct Settling<'a> {
    live: &'a Live,
    count: u64,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.live.settling.fetch_sub(self.count, Ordering::SeqCst);
        self.live.change();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(super) fn new(place: Place, table: Table, ready: u64) -> Self {
        Self {
            place,
            table: Mutex::new(Arc::new(table)),
            feeds: Mutex::default(),
            waiting: Mutex::default(),
            ready: AtomicI64::new(ready.cast_signed()),
            elsewhere: AtomicI64::new(0),
            ended: AtomicU64::new(0),
            settling: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            counted: AtomicU64::new(0),
        }
    }

    pub(super) fn table(&self) -> Arc<Table> {
        lock(&self.table).clone()
    }

    pub(super) fn set_table(&self, table: Table) {
        *lock(&self.table) = Arc::new(table);
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn weigh(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.counted.fetch_add(1, Ordering::Relaxed);
    }

    /// This process has stored a message for it.
    pub(super) fn published(&self, bytes: usize) {
        self.ready.fetch_add(1, Ordering::SeqCst);
        self.weigh(bytes);
        self.change();
    }

    /// A message has come, for the first time or again.
    pub(super) fn came(&self, sequence: u64, deliveries: u64, bytes: usize) {
        let waited = lock(&self.waiting).remove(&sequence).is_some();
        if !waited && deliveries == 1 {
            self.ready.fetch_sub(1, Ordering::SeqCst);
        }
        self.weigh(bytes);
        self.change();
    }

    /// It was given back.
    pub(super) fn waits(&self, sequence: u64, after: Duration) {
        lock(&self.waiting).insert(sequence, Instant::now() + after.min(Duration::from_secs(365 * 24 * 60 * 60)));
        self.change();
    }

    /// The subscription has ended with a message.
    pub(super) fn ended(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.change();
    }

    /// So many are being settled, until the answer is dropped.
    pub(super) fn settling(&self, count: usize) -> Settling<'_> {
        self.settling.fetch_add(count as u64, Ordering::SeqCst);
        Settling { live: self, count: count as u64 }
    }

    fn held(&self) -> u64 {
        self.settling.load(Ordering::SeqCst) + self.in_hands()
    }

    fn in_hands(&self) -> u64 {
        lock(&self.feeds).iter().filter_map(Weak::upgrade).map(|feed| feed.held() as u64).sum()
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(super) fn in_use(&self) -> bool {
        let mut feeds = lock(&self.feeds);
        feeds.retain(|feed| feed.strong_count() > 0);
        !feeds.is_empty()
    }

    /// Puts right what is believed by what the server says, unless something changed meanwhile.
    pub(super) fn correct(&self, changes: u64, pending: u64, unsettled: u64) {
        let held = self.held();
        let mut waiting = lock(&self.waiting);
        if self.changes() != changes {
            return;
        }
        let now = Instant::now();
        waiting.retain(|_, due| *due + OVERDUE > now);
        self.ready.store(pending.cast_signed(), Ordering::SeqCst);
        let here = held + waiting.len() as u64;
        self.elsewhere.store(unsettled.saturating_sub(here).cast_signed(), Ordering::SeqCst);
    }

    pub(super) fn depth(&self) -> Depth {
        let held = self.held();
        let (now, waiting) = (Instant::now(), lock(&self.waiting));
        let delayed = waiting.values().filter(|due| **due > now).count() as u64;
        let turn = waiting.len() as u64 - delayed;
        drop(waiting);
        let read = |number: &AtomicI64| number.load(Ordering::SeqCst).max(0).cast_unsigned();
        let (ready, unsettled) = (read(&self.ready) + turn, held + read(&self.elsewhere));
        let pending = ready + unsettled + delayed;
        let usual = self.bytes.load(Ordering::Relaxed) / self.counted.load(Ordering::Relaxed).max(1);
        let accepted = self.ended.load(Ordering::SeqCst) + pending;
        Depth { ready, unsettled, delayed, shed: 0, bytes: pending * usual.max(1), accepted }
    }
}
