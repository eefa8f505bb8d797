//! A subscription as this process sees it: how much there is to do, and who waits for more.
//!
//! What there is to do is counted from what this process does, and put right from time to time by what is in the tables.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::Row;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Depth;
use super::claim::Asks;
use super::db::{Db, Values};
use super::error::Fault;
use super::notify::Hints;
use super::publish::Given;

/// Counters of a subscription. What has ended was settled by this process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) ready: AtomicI64,
    pub(super) unsettled: AtomicI64,
    pub(super) delayed: AtomicI64,
    pub(super) bytes: AtomicI64,
    pub(super) ended: AtomicI64,
}

/// Shared by the consumers of a subscription.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) number: i32,
    pub(super) counters: Counters,
    pub(super) asks: Asks,
    /// Tells who claims for this subscription that there may be more.
    pub(super) more: Notify,
    /// When something that is parked falls due, as far as it is known here.
    due: Mutex<Option<Instant>>,
}

impl Live {
    fn new(number: i32) -> Self {
        Self { number, counters: Counters::default(), asks: Asks::default(), more: Notify::new(), due: Mutex::new(None) }
    }

    pub(super) fn depth(&self) -> Depth {
        let read = |counter: &AtomicI64| u64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(0);
        let counters = &self.counters;
        let (ready, unsettled, delayed) = (read(&counters.ready), read(&counters.unsettled), read(&counters.delayed));
        let accepted = read(&counters.ended) + ready + unsettled + delayed;
        Depth { ready, unsettled, delayed, shed: 0, bytes: read(&counters.bytes), accepted }
    }

    /// Something falls due after a time.
    pub(super) fn due_in(&self, time: Duration) {
        let then = Instant::now() + time.min(Duration::from_secs(24 * 60 * 60));
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = Some(due.map_or(then, |known| known.min(then)));
        drop(due);
        self.more.notify_one();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever looks takes over.
    pub(super) fn take_due(&self) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// All subscriptions of this process's consumers.
#[derive(Debug)]
pub(super) struct Lives {
    known: Mutex<BTreeMap<i32, Arc<Live>>>,
    /// How many are just changing the tables and the counters.
    changing: AtomicUsize,
    changes: AtomicU64,
    pub(super) hints: Hints,
}

/// Somebody changes the tables, then the counters.
pub(super) struct Changing<'a>(&'a Lives);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.0.changing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Lives {
    pub(super) fn new(hints: Hints) -> Self {
        Self { known: Mutex::default(), changing: AtomicUsize::new(0), changes: AtomicU64::new(0), hints }
    }

    /// What this process's consumers of a subscription share.
    pub(super) fn live(&self, number: i32) -> Arc<Live> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(number).or_insert_with(|| Arc::new(Live::new(number))).clone()
    }

    pub(super) fn get(&self, number: i32) -> Option<Arc<Live>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn wake(&self, number: i32) {
        if let Some(live) = self.get(number) {
            live.more.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
        self.all().iter().for_each(|live| live.more.notify_one());
    }

    /// To be held from before a statement until what it did is counted.
    pub(super) fn changing(&self) -> Changing<'_> {
        self.changing.fetch_add(1, Ordering::SeqCst);
        Changing(self)
    }

    /// Counts what was stored.
    pub(super) fn given(&self, given: &BTreeMap<i32, Given>) {
        for (number, given) in given {
            if let Some(live) = self.get(*number) {
                live.counters.ready.fetch_add(given.ready, Ordering::Relaxed);
                live.counters.delayed.fetch_add(given.delayed, Ordering::Relaxed);
                live.counters.bytes.fetch_add(given.bytes, Ordering::Relaxed);
                if let Some(time) = given.due_in {
                    live.due_in(time + Duration::from_millis(1));
                }
            }
        }
    }

    /// Wakes those that take it, here and elsewhere.
    pub(super) fn published(&self, subscriptions: impl Iterator<Item = i32>) {
        let subscriptions: Vec<i32> = subscriptions.collect();
        subscriptions.iter().for_each(|number| self.wake(*number));
        self.hints.add(&subscriptions);
    }

    /// Puts the counters right by what is in the tables, unless something changed meanwhile; says whether it did.
    pub(super) async fn count(&self, db: &Db, lives: &[Arc<Live>], anyway: bool) -> Result<bool, Fault> {
        let numbers: Vec<i32> = lives.iter().map(|live| live.number).collect();
        let quiet = self.changing.load(Ordering::SeqCst) == 0;
        let before = self.changes.load(Ordering::SeqCst);
        let rows = db.run(&db.sql(COUNT), Values::default().and(numbers)).await?;
        let same = quiet && self.changing.load(Ordering::SeqCst) == 0 && self.changes.load(Ordering::SeqCst) == before;
        if !same && !anyway {
            return Ok(false);
        }
        let mut found: BTreeMap<i32, [i64; 4]> = BTreeMap::new();
        for row in &rows {
            let read = |at: usize| row.try_get::<i64, _>(at).map_err(Fault::of);
            found.insert(row.try_get(0).map_err(Fault::of)?, [read(1)?, read(2)?, read(3)?, read(4)?]);
        }
        for live in lives {
            let [ready, unsettled, delayed, bytes] = found.get(&live.number).copied().unwrap_or_default();
            live.counters.ready.store(ready, Ordering::Relaxed);
            live.counters.unsettled.store(unsettled, Ordering::Relaxed);
            live.counters.delayed.store(delayed, Ordering::Relaxed);
            live.counters.bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(true)
    }
}

const COUNT: &str = "\
SELECT subscription, count(*) FILTER (WHERE NOT parked AND token IS NULL), count(*) FILTER (WHERE NOT parked AND token IS NOT NULL),
       count(*) FILTER (WHERE parked), coalesce(sum(bytes), 0)::bigint
FROM {s}.delivery WHERE subscription = ANY($1::int[]) GROUP BY subscription";
