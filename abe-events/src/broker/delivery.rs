//! One attempt to hand a message to a handler, and how it ends.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::message::{Id, Message};

/// How many attempts' failures are kept with a message; of more, the first and the latest.
pub const FAILURES_MAX: usize = 20;

/// How many bytes of a failure's text are kept.
pub const FAILURE_TEXT_BYTES_MAX: usize = 2 * 1024;

/// Who may settle: given out with a delivery, void as soon as the message is handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token(pub u64);

/// A message handed out, to be settled exactly once. Not cloneable: a settlement consumes it.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Who may settle.
    pub token: Token,
    /// The failures of earlier attempts, as far as the broker keeps them.
    pub failures: Option<Arc<Vec<Failure>>>,
}

impl Delivery {
    /// The failures of earlier attempts with one more, at most [`FAILURES_MAX`].
    pub fn failures_with(&mut self, failure: Failure) -> Arc<Vec<Failure>> {
        let mut failures = self.failures.take().unwrap_or_default();
        let list = Arc::make_mut(&mut failures);
        if list.len() >= FAILURES_MAX {
            // The first tells how it began, the latest how it stands.
            list.remove(1);
        }
        list.push(failure);
        failures
    }
}

/// What becomes of a delivery.
#[derive(Debug)]
pub struct Settlement {
    /// The delivery.
    pub delivery: Delivery,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a delivery.
#[derive(Debug)]
pub enum Verdict {
    /// Done: the subscription has ended with this message.
    Ack,
    /// The attempt failed; hand the message out again, not before `after`.
    Retry {
        /// The shortest time until the next attempt.
        after: Duration,
        /// Why the attempt failed.
        failure: Box<Failure>,
    },
    /// Failed for good: keep it as a dead letter, then ack.
    DeadLetter {
        /// Why, as the last of the dead letter's failures.
        failure: Box<Failure>,
    },
    /// Not tried: hand it out again as if it had not been handed out, not before `after`.
    Release {
        /// The shortest time until it is handed out again.
        after: Duration,
    },
}

/// Why an attempt failed, in a form that can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What sort of failure.
    pub kind: FailureKind,
    /// What was said about it, at most [`FAILURE_TEXT_BYTES_MAX`] bytes, control characters escaped.
    pub text: String,
    /// Which attempt failed.
    pub attempt: u32,
    /// When.
    pub at: SystemTime,
}

impl Failure {
    /// A failure, now.
    pub fn new(kind: FailureKind, attempt: u32, text: impl fmt::Display) -> Self {
        let mut clean = String::new();
        for c in text.to_string().chars() {
            if clean.len() + 8 > FAILURE_TEXT_BYTES_MAX {
                clean.push('…');
                break;
            }
            if c.is_control() && c != '\n' { clean.extend(c.escape_default()) } else { clean.push(c) }
        }
        Self { kind, text: clean, attempt, at: SystemTime::now() }
    }
}

/// What sort of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler returned an error.
    Error,
    /// The handler, a filter, an upcaster, a key expression or an extractor panicked.
    Panic,
    /// The attempt took too long.
    Timeout,
    /// The handler said that trying again cannot help.
    Permanent,
    /// The handler rejected the message.
    Rejected,
    /// The payload is not the event it claims to be.
    Undecodable,
    /// The payload's version is newer than this program knows, or too old to be read.
    Version,
    /// The payload or its headers are larger than allowed.
    Oversized,
    /// The chain of events is deeper than `max_hops`.
    HopLimit,
    /// What the handler returned could not be published.
    Publish,
    /// The process died while handling it, as far as the broker can tell.
    Crash,
}

impl FailureKind {
    /// A word for logs, metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Permanent => "permanent",
            Self::Rejected => "rejected",
            Self::Undecodable => "undecodable",
            Self::Version => "version",
            Self::Oversized => "oversized",
            Self::HopLimit => "hop-limit",
            Self::Publish => "publish",
            Self::Crash => "crash",
        }
    }

    /// Whether trying again cannot help, so that the message goes to dead letters on this attempt.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Permanent | Self::Rejected | Self::Undecodable | Self::Version | Self::Oversized | Self::HopLimit)
    }
}

/// What came of a batch of settlements.
#[derive(Debug, Default)]
pub struct Settled {
    /// The vector of settlements, emptied, to be used again.
    pub emptied: Vec<Settlement>,
    /// Messages whose lease was lost: nothing was changed, another delivery stands.
    pub lost: Vec<Id>,
    /// Settlements that could not be carried out, given back; the delivery is still the caller's to settle.
    pub failed: Vec<(Settlement, Error)>,
}
