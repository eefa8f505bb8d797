//! A lane's transactions: what happens between receiving a message and settling it, for a handler that works in one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::feed::LaneFeed;
use crate::broker::{Delivery, FailureKind};
use crate::error::{ErrorKind, Result};
use crate::handler::{Ended, InboxKey, Reservation, Transact, TransactionSlot};
use crate::inbox::{Begun, Transactions};
use crate::message::Message;
use crate::mutant;
use crate::runtime::subscription::Subscription;

/// The pause after the store did not answer, or left it open whether it committed: drawn from it to twice as long.
const PAUSE: Duration = Duration::from_millis(200);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is under way.
pub(super) struct Transacting<'a> {
    transactions: &'a dyn Transactions,
    slot: Arc<TransactionSlot>,
    beginning: Option<Boxed<'a, Begun>>,
    ending: Option<Boxed<'a, Result<(), Ended>>>,
}

impl<'a> Transacting<'a> {
    pub(super) fn of(subscription: &'a Subscription) -> Option<Box<Self>> {
        let transactions = subscription.transactions.as_deref()?;
        Some(Box::new(Self { transactions, slot: Arc::default(), beginning: None, ending: None }))
    }

    pub(super) fn slot(&self) -> Arc<TransactionSlot> {
        self.slot.clone()
    }

    /// Forgets what is under way; an open transaction is rolled back.
    pub(super) fn reset(&mut self) {
        (self.beginning, self.ending) = (None, None);
        drop(self.slot.end());
    }
}

/// Begins; without an answer nothing may run, and the messages come again.
async fn begin(transactions: &dyn Transactions, keys: Vec<InboxKey>, handler: &str) -> Begun {
    let count = keys.len();
    match transactions.begin(keys).await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::warn!(handler, %error, "the store did not begin a transaction");
            pause().await;
            Begun { open: None, each: vec![Reservation::Busy; count] }
        }
    }
}

/// What a failed commit means for its messages.
async fn verdict(committed: Result<()>, handler: &str) -> Result<(), Ended> {
    let Err(error) = committed else { return Ok(()) };
    match error.kind() {
        // The record decides when the message comes again, and no attempt is charged for it.
        ErrorKind::Unknown => {
            tracing::warn!(handler, %error, "it is open whether a transaction committed; its messages come again");
            pause().await;
            Err(Ended::Busy)
        }
        ErrorKind::Encode | ErrorKind::TooLarge => Err(Ended::failed(FailureKind::Publish, error)),
        _ => Err(Ended::failed(FailureKind::Error, error)),
    }
}

async fn pause() {
    tokio::time::sleep(PAUSE.mul_f64(1.0 + fastrand::f64())).await;
}

impl Transact for LaneFeed<'_> {
    fn poll_begin(&mut self, keys: &[InboxKey], cx: &mut Context<'_>) -> Poll<Vec<Reservation>> {
        let busy = || Poll::Ready(vec![Reservation::Busy; keys.len()]);
        let (subscription, Some(lane)) = (self.subscription, &mut self.transacting) else { return busy() };
        if lane.beginning.is_none() {
            if lane.transactions.excludes_broker() {
                // Once the transaction is open, the broker could neither settle nor renew.
                ready!(self.settling.poll_flush(cx));
                if !ready!(self.poll_certain(cx)) {
                    return busy();
                }
            }
            let Some(lane) = &mut self.transacting else { return busy() };
            let (transactions, keys) = (lane.transactions, keys.to_vec());
            lane.beginning = Some(Box::pin(async move { begin(transactions, keys, subscription.name()).await }));
        }
        let Some(lane) = &mut self.transacting else { return busy() };
        let Some(beginning) = &mut lane.beginning else { return busy() };
        match beginning.as_mut().poll(cx) {
            Poll::Ready(begun) => {
                lane.beginning = None;
                if let Some(open) = begun.open {
                    lane.slot.fill(open);
                }
                Poll::Ready(begun.each)
            }
            Poll::Pending if self.cancelled.as_mut().poll(cx).is_ready() || self.poll_renewal(cx).is_ready() => {
                if let Some(lane) = &mut self.transacting {
                    lane.beginning = None;
                }
                busy()
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_commit(&mut self, deliveries: &[Delivery], messages: &mut Vec<Message>, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        // Looked at before anything is begun, and never again: what is under way may be the rollback.
        if self.transacting.as_ref().is_some_and(|lane| lane.ending.is_none()) {
            let excludes = self.subscription.transactions.as_deref().is_some_and(Transactions::excludes_broker);
            if !excludes && !ready!(self.poll_certain(cx)) {
                tracing::warn!(
                    handler = self.subscription.name(),
                    messages = deliveries.len(),
                    "a lease ended before the commit; rolled back"
                );
                self.begin_roll_back();
            } else {
                self.begin_commit(messages)?;
            }
        }
        self.poll_ending(cx)
    }

    fn poll_roll_back(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.transacting.as_ref().is_some_and(|lane| lane.ending.is_none()) {
            self.begin_roll_back();
        }
        self.poll_ending(cx).map(|_| ())
    }
}

impl LaneFeed<'_> {
    fn begin_commit(&mut self, messages: &mut Vec<Message>) -> Result<(), Ended> {
        let handler = self.subscription.name();
        let Some(lane) = &mut self.transacting else { return Err(Ended::Busy) };
        let (Some(open), mut published) = lane.slot.end() else {
            let text = "the handler kept its `Tx` beyond its return, so nothing was committed; drop it, or let no task keep it";
            return Err(Ended::failed(FailureKind::Error, text));
        };
        published.extend(messages.drain(..).map(|message| (message, Duration::ZERO)));
        let transactions = lane.transactions;
        lane.ending = Some(Box::pin(async move { verdict(transactions.commit(open, published).await, handler).await }));
        Ok(())
    }

    /// Ends as what nothing may be acked for: whoever asked for a commit must not take it for one.
    fn begin_roll_back(&mut self) {
        let Some(lane) = &mut self.transacting else { return };
        let (open, _) = lane.slot.end();
        let transactions = lane.transactions;
        lane.ending = Some(Box::pin(async move {
            if let Some(open) = open {
                transactions.roll_back(open).await;
            }
            if mutant::is("rollback-is-commit") { Ok(()) } else { Err(Ended::Cancelled) }
        }));
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let Some(lane) = &mut self.transacting else { return Poll::Ready(Err(Ended::Busy)) };
        let Some(ending) = &mut lane.ending else { return Poll::Ready(Err(Ended::Busy)) };
        let ended = ready!(ending.as_mut().poll(cx));
        lane.ending = None;
        Poll::Ready(ended)
    }

    /// Whether what the worker holds is certainly still its own; asks the broker when the last answer is too old.
    fn poll_certain(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(renewal) = self.renewal.as_mut().filter(|_| !mutant::is("late-commits")) else { return Poll::Ready(true) };
        renewal.poll_certain(cx, self.waiting.iter().map(|delivery| delivery.token))
    }
}
