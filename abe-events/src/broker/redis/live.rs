//! A subscription as this process sees it: how much there is to do, and who waits for more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::Value;
use tokio::sync::Notify;

use super::super::Depth;
use super::reply;

/// How much there was, at a time of the server's clock.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    at: i64,
    total: u64,
    leased: u64,
    delayed: u64,
}

/// Shared by the consumers of a subscription.
#[derive(Debug)]
pub(super) struct Live {
    /// What it is called on the server.
    pub(super) name: String,
    pub(super) record: String,
    pub(super) ordered: bool,
    counts: Mutex<Counts>,
    ended: AtomicU64,
    bytes: AtomicU64,
    weighed: AtomicU64,
    /// Who waits because there is nothing; others stand behind.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) more: Notify,
}

impl Live {
    pub(super) fn new(name: String, record: String, ordered: bool) -> Self {
        Self {
            name,
            record,
            ordered,
            counts: Mutex::default(),
            ended: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            weighed: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Takes over what the server has counted: time, total, handed out, delayed. Answers may come in another order.
    pub(super) fn count(&self, answer: &[Value]) {
        let read = |at: usize| reply::number(answer.get(at));
        let counts = Counts {
            at: read(0),
            total: read(1).max(0).cast_unsigned(),
            leased: read(2).max(0).cast_unsigned(),
            delayed: read(3).max(0).cast_unsigned(),
        };
        let mut known = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.at >= known.at {
            *known = counts;
        }
    }

    pub(super) fn weigh(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.weighed.fetch_add(1, Ordering::Relaxed);
    }

    /// The subscription has ended with so many messages.
    pub(super) fn ended(&self, count: u64) {
        self.ended.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn depth(&self) -> Depth {
        let Counts { total, leased, delayed, .. } = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let usual = self.bytes.load(Ordering::Relaxed) / self.weighed.load(Ordering::Relaxed).max(1);
        Depth {
            ready: total.saturating_sub(leased + delayed),
            unsettled: leased,
            delayed,
            shed: 0,
            bytes: total * usual.max(1),
            accepted: self.ended.load(Ordering::Relaxed) + total,
        }
    }
}

/// All subscriptions of this process's consumers.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<HashMap<String, Arc<Live>>>);

impl Lives {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the consumers of a subscription share; with another record it is another.
    pub(super) fn live(&self, name: &str, record: &str, ordered: bool) -> Arc<Live> {
        let mut lives = self.lock();
        // Those that nobody holds any more are forgotten.
        lives.retain(|known, live| known == name || Arc::strong_count(live) > 1);
        match lives.get(name) {
            Some(live) if live.record == record => live.clone(),
            _ => {
                let live = Arc::new(Live::new(name.to_owned(), record.to_owned(), ordered));
                lives.insert(name.to_owned(), live.clone());
                live
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Live>> {
        self.lock().get(name).cloned()
    }

    pub(super) fn wake(&self, name: &str) {
        if let Some(live) = self.get(name) {
            live.more.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
        self.lock().values().for_each(|live| live.more.notify_one());
    }
}
