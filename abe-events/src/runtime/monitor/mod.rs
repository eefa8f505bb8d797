//! What happened, in numbers: [`Monitor`].

mod histogram;
mod stats;

use std::fmt;
use std::time::Duration;

pub(crate) use self::histogram::Distribution;
pub(crate) use self::stats::LaneStats;
use super::subscription::Subscription;

/// A picture of a runtime's numbers at one moment.
///
/// At quiescence the numbers alone show that nothing is lost:
/// `accepted = succeeded + dead + filtered + duplicates + pending`, for each subscription and in all.
/// See [`Monitor::balances`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Monitor {
    /// Since when the runtime runs.
    pub uptime: Duration,
    /// Messages published through this runtime.
    pub published: u64,
    /// Of those, how many no subscription took.
    pub unrouted: u64,
    /// Messages published through this runtime, by topic.
    pub topics: Vec<TopicMonitor>,
    /// Each subscription, by name.
    pub subscriptions: Vec<SubscriptionMonitor>,
    /// The outbox, if there is a store.
    pub outbox: Option<OutboxMonitor>,
}

/// The numbers of the outbox. What waits in it is that of all processes on its database, as of a second ago.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxMonitor {
    /// Messages that this process's relay has published.
    pub relayed: u64,
    /// Messages that wait to be published; counted up to 100,000.
    pub pending: u64,
    /// Of those, how many the broker has refused; they are tried again, and those of their key wait behind them.
    pub refused: u64,
    /// How long the oldest of them waits.
    pub oldest: Duration,
}

/// The numbers of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicMonitor {
    /// The topic.
    pub topic: String,
    /// Messages published to it through this runtime.
    pub published: u64,
}

/// The numbers of a subscription.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SubscriptionMonitor {
    /// The subscription's name; empty in a sum.
    pub name: String,
    /// Messages stored for it, replays included, since it exists in this process.
    pub accepted: u64,
    /// Messages handled.
    pub succeeded: u64,
    /// Messages given up, as dead letters or, with `dead_letter = false`, thrown away.
    pub dead: u64,
    /// Of those, how many were thrown away.
    pub discarded: u64,
    /// Messages the filter did not want.
    pub filtered: u64,
    /// Messages skipped because they were applied before.
    pub duplicates: u64,
    /// Messages that have not ended: waiting, running, or due later.
    pub pending: u64,
    /// Of those, how many are in a running attempt.
    pub in_flight: u64,
    /// Of those, how many wait for a retry or a delayed publish.
    pub delayed: u64,
    /// Messages that a full queue shed, by policy.
    pub shed: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Of those, panics.
    pub panicked: u64,
    /// Of those, timeouts.
    pub timed_out: u64,
    /// Failed attempts after which the message was put back to be retried.
    pub retried: u64,
    /// Deliveries given back without an attempt: at shutdown, or behind a running duplicate.
    pub released: u64,
    /// Deliveries whose lease was lost.
    pub leases_lost: u64,
    /// Times a handler kept its thread for longer than its timeout.
    pub stalled: u64,
    /// Mean time of an attempt.
    pub mean: Duration,
    /// Time within which half of the attempts ended, to an eighth.
    pub p50: Duration,
    /// Time within which 99 % of the attempts ended, to an eighth.
    pub p99: Duration,
}

impl SubscriptionMonitor {
    pub(crate) fn read(subscription: &Subscription) -> Self {
        let depth = subscription.consumer.depth();
        let mut sum = Self {
            name: subscription.name().to_owned(),
            accepted: depth.accepted,
            pending: depth.pending(),
            delayed: depth.delayed,
            shed: depth.shed,
            stalled: subscription.stalled.load(std::sync::atomic::Ordering::Relaxed),
            ..Self::default()
        };
        let mut times = Distribution::new();
        for lane in subscription.stats.iter() {
            sum.succeeded += lane.succeeded.get();
            sum.dead += lane.dead.get();
            sum.discarded += lane.discarded.get();
            sum.filtered += lane.filtered.get();
            sum.duplicates += lane.duplicates.get();
            sum.failed += lane.failed.get();
            sum.panicked += lane.panicked.get();
            sum.timed_out += lane.timed_out.get();
            sum.retried += lane.retried.get();
            sum.released += lane.released.get();
            sum.leases_lost += lane.leases_lost.get();
            sum.in_flight += lane.started.get().saturating_sub(lane.ended.get());
            times.add(&lane.latency);
        }
        (sum.mean, sum.p50, sum.p99) = (times.mean(), times.percentile(0.5), times.percentile(0.99));
        sum
    }

    /// Whether `accepted = succeeded + dead + filtered + duplicates + pending`; holds whenever nothing is just moving.
    pub fn balances(&self) -> bool {
        self.accepted == self.succeeded + self.dead + self.filtered + self.duplicates + self.pending
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.succeeded += other.succeeded;
        self.dead += other.dead;
        self.discarded += other.discarded;
        self.filtered += other.filtered;
        self.duplicates += other.duplicates;
        self.pending += other.pending;
        self.in_flight += other.in_flight;
        self.delayed += other.delayed;
        self.shed += other.shed;
        self.failed += other.failed;
        self.panicked += other.panicked;
        self.timed_out += other.timed_out;
        self.retried += other.retried;
        self.released += other.released;
        self.leases_lost += other.leases_lost;
        self.stalled += other.stalled;
    }
}

impl Monitor {
    /// All subscriptions added up; without times, which do not add.
    pub fn total(&self) -> SubscriptionMonitor {
        let mut total = SubscriptionMonitor::default();
        for subscription in &self.subscriptions {
            total.add(subscription);
        }
        total
    }

    /// The numbers of a subscription, by its full name or the last part of it.
    pub fn subscription(&self, name: &str) -> Option<&SubscriptionMonitor> {
        let name = name.replace("::", ".");
        let exact = self.subscriptions.iter().find(|known| known.name == name);
        exact.or_else(|| self.subscriptions.iter().find(|known| known.name.rsplit('.').next() == Some(name.as_str())))
    }

    /// Whether every subscription's numbers add up; see [`SubscriptionMonitor::balances`].
    pub fn balances(&self) -> bool {
        self.subscriptions.iter().all(SubscriptionMonitor::balances)
    }
}

impl fmt::Display for Monitor {
    /// A table with a line for each subscription and one for all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.subscriptions.iter().map(|known| known.name.len()).max().unwrap_or(0).max(12);
        writeln!(
            f,
            "{:width$} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9}",
            "subscription", "accepted", "succeeded", "filtered", "duplic.", "dead", "pending", "failed", "retried", "p50", "p99"
        )?;
        let total = SubscriptionMonitor { name: "total".into(), ..self.total() };
        for row in self.subscriptions.iter().chain([&total]) {
            let time = |time: Duration| if row.name == "total" { String::new() } else { format!("{time:.1?}") };
            writeln!(
                f,
                "{:width$} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9}",
                row.name,
                row.accepted,
                row.succeeded,
                row.filtered,
                row.duplicates,
                row.dead,
                row.pending,
                row.failed,
                row.retried,
                time(row.p50),
                time(row.p99)
            )?;
        }
        write!(f, "published {}, of which nobody subscribed to {}; up {:.1?}", self.published, self.unrouted, self.uptime)
    }
}
