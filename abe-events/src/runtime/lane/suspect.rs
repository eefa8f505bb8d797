//! Messages whose attempts end without a word: the process died meanwhile, or stood still until the lease was lost.
//!
//! A broker counts an attempt before it hands a message out, so a message that takes its process along costs an attempt to
//! all that were handed out beside it. From its third silent end on a message is a suspect: it runs alone, one suspect of
//! a runtime at a time, and whatever else its lane holds goes back uncounted before it starts. So the one at fault uses up
//! its attempts and the others do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::feed::LaneFeed;
use crate::broker::{Delivery, Token};

/// How often a message may end without a word before it runs alone.
const TOGETHER_MAX: u32 = 2;

/// How often a message is handed out whose attempts end without a word, if its policy allows fewer: most of those that were
/// merely beside the one at fault end well as soon as they run alone.
const SILENT_MAX: u32 = 5;

/// How long a suspect waits while another one runs; drawn, so that they do not come back together.
const WAIT_MS: std::ops::Range<u64> = 200..800;

/// Whether the attempt before this one left no word.
fn is_silent(delivery: &Delivery) -> bool {
    let told = delivery.failures.as_deref().and_then(|failures| failures.last()).map_or(0, |failure| failure.attempt);
    delivery.attempt > told.saturating_add(1)
}

/// Whether a message must not run beside others.
pub(super) fn is_suspect(delivery: &Delivery) -> bool {
    delivery.attempt > TOGETHER_MAX && is_silent(delivery) && !crate::mutant::is("suspects-together")
}

/// Whether a message is given up without another attempt.
pub(super) fn is_given_up(delivery: &Delivery, attempts: u32) -> bool {
    delivery.attempt > attempts.max(SILENT_MAX) && is_silent(delivery) && !crate::mutant::is("silent-for-ever")
}

/// How long a suspect waits.
pub(super) fn wait() -> Duration {
    Duration::from_millis(fastrand::u64(WAIT_MS))
}

/// Lets one suspect of a runtime through at a time.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicBool);

impl Gate {
    /// Lets a suspect through, if no other is.
    pub(super) fn enter(self: &Arc<Self>, suspect: &Delivery) -> Option<Pass> {
        let free = self.0.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok();
        free.then(|| Pass { gate: self.clone(), token: suspect.token })
    }
}

/// Through the gate, until it is dropped: once the suspect's verdict is stored, not before.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    token: Token,
}

impl Pass {
    /// Whether it is this one's.
    pub(super) fn is_of(&self, delivery: &Delivery) -> bool {
        self.token == delivery.token
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.0.store(false, Ordering::Release);
    }
}

impl LaneFeed<'_> {
    /// Sees to it that a suspect runs alone: ready when the next that waits may start.
    pub(super) fn poll_isolate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let attempts = self.subscription.policy.retry.attempts;
        let next = self.waiting.front();
        if self.pass.as_ref().is_some_and(|pass| next.is_none_or(|next| !pass.is_of(next))) {
            // It has run, and the next one might take its verdict along.
            ready!(self.settling.poll_flush(cx));
            self.pass = None;
        }
        let is_next = |next: &Delivery| is_suspect(next) && !is_given_up(next, attempts);
        let Some(next) = next.filter(|next| is_next(next)) else { return Poll::Ready(()) };
        if self.pass.is_none() {
            self.pass = self.subscription.gate.enter(next);
            // Where no other suspect runs, this one stays; what it could take along does not.
            let stays = usize::from(self.pass.is_some());
            for delivery in self.waiting.split_off(stays) {
                let after = if is_suspect(&delivery) { wait() } else { Duration::ZERO };
                self.hand_back(delivery, after);
            }
            self.fetch.take_one_next();
        }
        // Before it starts, what went back must have arrived.
        self.settling.poll_flush(cx)
    }
}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use super::*;
    use crate::broker::{Failure, FailureKind};
    use crate::message::{Message, Payload};
    use crate::topic::Topic;

    fn delivery(attempt: u32, told: &[u32]) -> Delivery {
        let failures = told.iter().map(|attempt| Failure::new(FailureKind::Error, *attempt, "told")).collect::<Vec<_>>();
        let message = Message::new(Topic::from_static("a"), 1, Payload::from_bytes("{}"));
        Delivery { message, attempt, token: Token(1), failures: (!told.is_empty()).then(|| Arc::new(failures)) }
    }

    #[test]
    fn who_failed_with_a_word_is_no_suspect() {
        assert!(!is_suspect(&delivery(1, &[])) && !is_suspect(&delivery(2, &[])) && is_suspect(&delivery(3, &[])));
        assert!(!is_suspect(&delivery(3, &[1, 2])) && is_suspect(&delivery(3, &[1])));
        // Of many failures the first and the latest are kept.
        assert!(!is_suspect(&delivery(90, &[1, 88, 89])) && !is_given_up(&delivery(90, &[1, 88, 89]), 3));
        assert!(!is_given_up(&delivery(5, &[]), 3) && is_given_up(&delivery(6, &[]), 3));
        assert!(!is_given_up(&delivery(6, &[]), 6) && is_given_up(&delivery(7, &[]), 6));
    }

    #[test]
    fn one_is_let_through_at_a_time() {
        let gate = Arc::new(Gate::default());
        let (one, mut other) = (delivery(3, &[]), delivery(3, &[]));
        other.token = Token(2);
        let pass = gate.enter(&one);
        assert!(pass.as_ref().is_some_and(|pass| pass.is_of(&one) && !pass.is_of(&other)) && gate.enter(&other).is_none());
        drop(pass);
        assert!(gate.enter(&other).is_some());
    }
}
