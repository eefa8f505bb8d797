//! Handing on: what a lane took along goes back when its handler takes long, so that other lanes can have it.
//!
//! A lane takes several messages at once where the ones before were quick. When one of them is not, the others must not
//! wait for it while lanes beside this one have nothing to do.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::feed::LaneFeed;
use super::tally::Kind;
use crate::broker::{Delivery, Verdict};
use crate::handler::InboxKey;
use crate::mutant;

/// How long an attempt may take before what waits behind it is handed on.
const PATIENCE: Duration = Duration::from_millis(100);

/// A lane's patience with its handler.
#[derive(Debug)]
pub(super) struct HandOn {
    timer: Pin<Box<Sleep>>,
    /// Whether the timer was set for the running attempt; never for one that is ready at once.
    armed: bool,
}

impl HandOn {
    pub(super) fn new() -> Self {
        Self { timer: Box::pin(tokio::time::sleep(Duration::ZERO)), armed: false }
    }

    pub(super) fn attempt_ends(&mut self) {
        self.armed = false;
    }

    /// Ready when the attempt has taken long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.armed, true) {
            self.timer.as_mut().reset(Instant::now() + PATIENCE);
        }
        self.timer.as_mut().poll(cx)
    }
}

impl LaneFeed<'_> {
    /// Gives back what waits for an attempt that takes long.
    pub(super) fn poll_hand_on(&mut self, cx: &mut Context<'_>) {
        let running_of_run = usize::from(self.lent > 0);
        let waits = !self.waiting.is_empty() || self.run.as_slice().len() > running_of_run;
        let Some(hand_on) = self.hand_on.as_mut().filter(|_| waits && !mutant::is("kept-behind-a-slow-one")) else { return };
        if hand_on.poll(cx).is_pending() {
            return;
        }
        for delivery in std::mem::take(&mut self.waiting) {
            self.hand_back(delivery, Duration::ZERO);
        }
        let Some(local) = self.local else { return };
        let (lane, reserved) = (self.fetch.lane(), self.subscription.inbox.is_some());
        let lent = std::mem::replace(&mut self.lent, running_of_run);
        for (at, message) in self.run.split_off(running_of_run).into_iter().enumerate() {
            if reserved && at + running_of_run < lent {
                self.settling.record(InboxKey::Id(message.id().clone()), false);
            }
            self.hand_back(local.delivery(lane, message), Duration::ZERO);
        }
    }

    /// Gives back what was not started, so that it costs no attempt.
    pub(super) fn hand_back(&mut self, delivery: Delivery, after: Duration) {
        self.stats.released.add(1);
        self.settling.push(delivery, Verdict::Release { after }, Kind::Again);
    }
}
