//! Carrying out verdicts, in batches: the inbox first, then the broker.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::tally::{Kind, Tally, take_back};
use crate::broker::{Answer, Delivery, Settled, Settlement, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::InboxKey;
use crate::runtime::monitor::LaneStats;
use crate::runtime::subscription::Subscription;

/// How many verdicts wait at most before they are carried out, even if there is more to do.
const BATCH: usize = 64;

/// Keys with whether they were applied, or only reserved.
type Keys = Vec<(InboxKey, bool)>;

/// Verdicts on their way.
pub(super) struct Settling<'a> {
    subscription: &'a Subscription,
    stats: &'a LaneStats,
    /// Keys to record as applied, or to release.
    keys: Keys,
    settlements: Vec<Settlement>,
    tally: Tally,
    /// Of what was handed to the broker.
    underway: Tally,
    recording: Option<Answer<'a, Result<Keys>>>,
    settling: Option<Answer<'a, Settled>>,
    /// Whether what the broker was handed last gives nothing back to the queue.
    only_acks: bool,
}

impl<'a> Settling<'a> {
    pub(super) fn new(subscription: &'a Subscription, stats: &'a LaneStats) -> Self {
        Self {
            subscription,
            stats,
            keys: Vec::new(),
            settlements: Vec::new(),
            tally: Tally::default(),
            underway: Tally::default(),
            recording: None,
            settling: None,
            only_acks: false,
        }
    }

    pub(super) fn record(&mut self, key: InboxKey, applied: bool) {
        self.keys.push((key, applied));
    }

    pub(super) fn push(&mut self, delivery: Delivery, verdict: Verdict, kind: Kind) {
        self.tally.note(kind, self.subscription.lease.map(|_| delivery.message.id()));
        self.settlements.push(Settlement { delivery, verdict });
    }

    pub(super) fn is_full(&self) -> bool {
        self.settlements.len() >= BATCH
    }

    /// Whether the broker is at work on verdicts of which none brings a message back: what is received meanwhile stands
    /// behind nothing of them.
    pub(super) fn only_acks_underway(&self) -> bool {
        self.only_acks && self.settling.is_some()
    }

    /// Records keys that are applied and not yet in the inbox, if there are any.
    pub(super) fn poll_flush_if_unrecorded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.keys.is_empty() && self.recording.is_none() { Poll::Ready(()) } else { self.poll_record(cx) }
    }

    /// Carries out all verdicts.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(settling) = &mut self.settling {
                let settled = ready!(Pin::new(settling).poll(cx));
                self.settling = None;
                self.settled(settled);
            }
            ready!(self.poll_record(cx));
            if self.settlements.is_empty() {
                return Poll::Ready(());
            }
            self.underway = std::mem::take(&mut self.tally);
            self.underway.hand_over(self.stats);
            self.only_acks = self.settlements.iter().all(|settlement| matches!(settlement.verdict, Verdict::Ack));
            match self.subscription.consumer.settle(std::mem::take(&mut self.settlements)).at_hand() {
                Ok(settled) => self.settled(settled),
                Err(settling) => self.settling = Some(settling),
            }
        }
    }

    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(recording) = &mut self.recording {
                let recorded = ready!(Pin::new(recording).poll(cx));
                self.recording = None;
                self.recorded(recorded);
            }
            let Some(inbox) = self.subscription.inbox.as_deref().filter(|_| !self.keys.is_empty()) else { return Poll::Ready(()) };
            match inbox.finish(std::mem::take(&mut self.keys)).at_hand() {
                Ok(recorded) => self.recorded(recorded),
                Err(recording) => self.recording = Some(recording),
            }
        }
    }

    fn recorded(&mut self, recorded: Result<Keys>) {
        match recorded {
            Ok(emptied) if self.keys.is_empty() => self.keys = emptied,
            Ok(_) => {}
            // The effect happened and its record did not: a redelivery would run it again, which is what at-least-once
            // allows. It is said, not hidden.
            Err(error) => tracing::error!(handler = self.subscription.name(), %error, "the inbox did not record what was applied"),
        }
    }

    fn settled(&mut self, settled: Settled) {
        if self.settlements.is_empty() {
            self.settlements = settled.emptied;
        }
        if !settled.lost.is_empty() {
            settled.lost.iter().for_each(|id| self.underway.lost(id, self.stats));
            self.stats.leases_lost.add(settled.lost.len() as u64);
            tracing::warn!(handler = self.subscription.name(), ids = ?settled.lost, "leases were lost before the messages were settled; they run again");
        }
        let mut again = Vec::new();
        for (settlement, error) in settled.failed {
            again.extend(self.failed(settlement, &error));
        }
        for settlement in again {
            self.push(settlement.delivery, settlement.verdict, Kind::Again);
        }
    }

    /// A dead letter that cannot be stored is not acked: the message waits and its last attempt is repeated.
    fn failed(&mut self, settlement: Settlement, error: &Error) -> Option<Settlement> {
        self.stats.settle_failures.add(1);
        let Settlement { delivery, verdict } = settlement;
        let id = delivery.message.id().clone();
        match verdict {
            Verdict::DeadLetter { .. } if error.kind() != ErrorKind::Closed => {
                let after = self.subscription.policy.retry.max;
                tracing::error!(handler = self.subscription.name(), %id, %error, ?after, "dead letter not stored; the message is kept and tried again");
                take_back(Kind::Dead, self.stats);
                Some(Settlement { delivery, verdict: Verdict::Release { after } })
            }
            verdict => {
                // Which of the acks it was is not told; a success is by far the most likely.
                if matches!(verdict, Verdict::Ack) {
                    take_back(Kind::Succeeded, self.stats);
                }
                tracing::error!(handler = self.subscription.name(), %id, %error, "verdict not carried out; the message comes again when its lease ends");
                None
            }
        }
    }
}
