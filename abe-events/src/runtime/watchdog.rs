//! Finds handlers that keep a thread: a timeout cannot interrupt code that never yields, and nobody else would tell.
//!
//! A thread of its own, since the runtime's threads may be the ones that are held.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::subscription::Subscription;

/// How often lanes are looked at; a stall is told at most this late.
const PERIOD: Duration = Duration::from_millis(250);

/// Ends its thread when dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Dropped first, which wakes the thread.
    _stop: SyncSender<()>,
}

impl Watchdog {
    /// Watches the lanes of all subscriptions that have a timeout.
    pub(crate) fn start(subscriptions: &[Arc<Subscription>]) -> std::io::Result<Self> {
        let watched: Vec<Weak<Subscription>> = subscriptions
            .iter()
            .filter(|known| known.policy.timeout.is_some() && !known.handler.spec.blocking)
            .map(Arc::downgrade)
            .collect();
        let (stop, stopped) = sync_channel(1);
        if !watched.is_empty() {
            thread::Builder::new().name("abe-events-watchdog".into()).spawn(move || watch(&watched, &stopped))?;
        }
        Ok(Self { _stop: stop })
    }
}

/// Since when a lane shows the same odd pulse, and whether that was told.
struct Seen {
    pulse: u32,
    since: Instant,
    told: bool,
}

fn watch(watched: &[Weak<Subscription>], stopped: &Receiver<()>) {
    let mut seen: HashMap<(usize, usize), Seen> = HashMap::new();
    while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        for (at, subscription) in watched.iter().enumerate() {
            let Some(subscription) = subscription.upgrade() else { continue };
            look(at, &subscription, &mut seen);
        }
    }
}

fn look(at: usize, subscription: &Subscription, seen: &mut HashMap<(usize, usize), Seen>) {
    let Some(timeout) = subscription.policy.timeout else { return };
    for (lane, pulse) in subscription.pulses.iter().enumerate() {
        let pulse = pulse.load(Ordering::Relaxed);
        if pulse.is_multiple_of(2) {
            seen.remove(&(at, lane));
            continue;
        }
        let entry = seen.entry((at, lane)).or_insert_with(|| Seen { pulse, since: Instant::now(), told: false });
        if entry.pulse != pulse {
            *entry = Seen { pulse, since: Instant::now(), told: false };
        } else if !entry.told && entry.since.elapsed() >= timeout {
            entry.told = true;
            subscription.stalled.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                handler = subscription.name(),
                at = %subscription.handler.spec.at,
                ?timeout,
                "handler keeps its thread for longer than its timeout, which cannot interrupt it; mark it `blocking`, or await"
            );
        }
    }
}
