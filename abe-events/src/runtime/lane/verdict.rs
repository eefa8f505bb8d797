//! From how a delivery ended to what becomes of it. Pure but for the counters and the dice.

use std::time::Duration;

use super::tally::Kind;
use crate::broker::{Delivery, Failure, FailureKind, Verdict};
use crate::handler::Ended;
use crate::mutant;
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

    pub(super) fn decide(&self, delivery: &Delivery, ended: Ended) -> (Verdict, Kind) {
        match ended {
            Ended::Success => (Verdict::Ack, Kind::Succeeded),
            Ended::Filtered if mutant::is("filtered-uncounted") => (Verdict::Ack, Kind::Again),
            Ended::Filtered => (Verdict::Ack, Kind::Filtered),
            Ended::Duplicate => (Verdict::Ack, Kind::Duplicate),
            Ended::Busy => {
                self.stats.released.add(1);
                (Verdict::Release { after: BUSY_AFTER }, Kind::Again)
            }
            Ended::Cancelled => {
                self.stats.released.add(1);
                (Verdict::Release { after: Duration::ZERO }, Kind::Again)
            }
            Ended::Failed { kind: FailureKind::Panic, .. } if mutant::is("panic-is-success") => (Verdict::Ack, Kind::Succeeded),
            Ended::Failed { kind, text, after } => self.failed(delivery, kind, &text, after),
        }
    }

    fn failed(&self, delivery: &Delivery, kind: FailureKind, text: &str, after: Option<Duration>) -> (Verdict, Kind) {
        self.stats.failure(kind);
        let failure = Box::new(Failure::new(kind, delivery.attempt, text));
        let (handler, id, attempt) = (self.subscription.name(), delivery.message.id(), delivery.attempt);
        if mutant::is("ack-on-failure") {
            return (Verdict::Ack, Kind::Succeeded);
        }
        let is_final = kind.is_final() && !mutant::is("final-is-retried");
        // Bounded all the same: a mutant must fail a test, not hang it.
        let attempts = self.subscription.policy.retry.attempts + if mutant::is("one-attempt-more") { 1 } else { 0 };
        if !is_final && delivery.attempt < attempts {
            let mut after = after.unwrap_or_else(|| self.subscription.policy.retry.delay(delivery.attempt, fastrand::f64()));
            if mutant::is("retry-at-once") {
                after = Duration::ZERO;
            }
            self.stats.retried.add(1);
            tracing::warn!(handler, %id, attempt, ?after, kind = kind.as_str(), error = failure.text, "attempt failed, and is repeated");
            return (Verdict::Retry { after, failure }, Kind::Again);
        }
        if self.subscription.policy.dead_letter {
            tracing::error!(handler, %id, attempt, kind = kind.as_str(), error = failure.text, "message failed for good, and is kept as a dead letter");
            (Verdict::DeadLetter { failure }, Kind::Dead)
        } else {
            tracing::error!(handler, %id, attempt, kind = kind.as_str(), error = failure.text, "message failed for good, and is thrown away (`dead_letter = false`)");
            (Verdict::Ack, Kind::Discarded)
        }
    }
}
