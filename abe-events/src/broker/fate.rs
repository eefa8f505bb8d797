//! What becomes of a delivery, as a store carries it out, and what came of that.

use std::time::Duration;

use super::failures::failures_text;
use super::{Failure, Settlement, Verdict};
use crate::error::Error;

/// What becomes of a delivery.
#[derive(Debug)]
pub(super) enum Fate {
    Ack,
    Retry {
        after: Duration,
        failures: String,
    },
    Dead {
        failures: String,
        at_ms: i64,
    },
    /// Back to the queue, as if it had not been handed out, or with its attempt counted because a handler may have run.
    Release {
        after: Duration,
        counted: bool,
    },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Came {
    Done,
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    Lost,
    Failed(Error),
}

impl Fate {
    /// What a store needs of a verdict.
    pub(super) fn of(settlement: &mut Settlement) -> Self {
        let Settlement { delivery, verdict } = settlement;
        let mut all_failures = |failure: &Failure| {
            // The delivery may come back, unsettled: it keeps the failures it had.
            let before = delivery.failures.clone();
            let text = failures_text(&delivery.failures_with(failure.clone()));
            delivery.failures = before;
            text
        };
        match verdict {
            Verdict::Ack => Self::Ack,
            Verdict::Release { after } => Self::Release { after: *after, counted: false },
            Verdict::Retry { after, failure } => Self::Retry { after: *after, failures: all_failures(failure) },
            Verdict::DeadLetter { failure } => {
                let at = failure.at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Self::Dead { failures: all_failures(failure), at_ms: i64::try_from(at.as_millis()).unwrap_or(i64::MAX) }
            }
        }
    }
}
