//! From how a delivery ended to what becomes of it. Pure but for the counters and the dice.

use std::time::Duration;

use crate::broker::{Delivery, Failure, FailureKind, Verdict};
use crate::handler::Ended;
use crate::runtime::monitor::LaneStats;
use crate::runtime::subscription::Subscription;

/// How long a duplicate waits for the one that is running.
const BUSY_AFTER: Duration = Duration::from_millis(25);

/// Decides by a subscription's policy.
pub(super) struct Verdicts<'a> {
    subscription: &'a Subscription,
    stats: &'a LaneStats,
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(subscription: &'a Subscription, stats: &'a LaneStats) -> Self {
        Self { subscription, stats }
    }

    pub(super) fn decide(&self, delivery: &Delivery, ended: Ended) -> Verdict {
        match ended {
            Ended::Success => {
                self.stats.succeeded.add(1);
                Verdict::Ack
            }
            Ended::Filtered => {
                self.stats.filtered.add(1);
                Verdict::Ack
            }
            Ended::Duplicate => {
                self.stats.duplicates.add(1);
                Verdict::Ack
            }
            Ended::Busy => {
                self.stats.released.add(1);
                Verdict::Release { after: BUSY_AFTER }
            }
            Ended::Cancelled => {
                self.stats.released.add(1);
                Verdict::Release { after: Duration::ZERO }
            }
            Ended::Failed { kind, text, after } => self.failed(delivery, kind, &text, after),
        }
    }

    fn failed(&self, delivery: &Delivery, kind: FailureKind, text: &str, after: Option<Duration>) -> Verdict {
        self.stats.failure(kind);
        let failure = Box::new(Failure::new(kind, delivery.attempt, text));
        let (handler, id, attempt) = (self.subscription.name(), delivery.message.id(), delivery.attempt);
        if !kind.is_final() && delivery.attempt < self.subscription.policy.retry.attempts {
            let after = after.unwrap_or_else(|| self.subscription.policy.retry.delay(delivery.attempt, fastrand::f64()));
            self.stats.retried.add(1);
            tracing::warn!(handler, %id, attempt, ?after, kind = kind.as_str(), error = failure.text, "attempt failed, and is repeated");
            return Verdict::Retry { after, failure };
        }
        self.stats.dead.add(1);
        if self.subscription.policy.dead_letter {
            tracing::error!(handler, %id, attempt, kind = kind.as_str(), error = failure.text, "message failed for good, and is kept as a dead letter");
            Verdict::DeadLetter { failure }
        } else {
            self.stats.discarded.add(1);
            tracing::error!(handler, %id, attempt, kind = kind.as_str(), error = failure.text, "message failed for good, and is thrown away (`dead_letter = false`)");
            Verdict::Ack
        }
    }
}
