//! Calls within a database transaction: begun before the handler, committed or rolled back after it, then settled.
//!
//! The handler sees the transaction through an extractor that takes it out of the lane's [`TransactionSlot`] and puts it
//! back when it is dropped. What a transaction is, only the store knows.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::slice::from_ref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::attempt::{call, guarded, key_of, kind_of};
use super::bind::Calls;
use super::feed::{Ended, Feed, InboxKey, Reservation};
use super::meta::Meta;
use super::outcome::Reply;
use crate::broker::{Delivery, FailureKind};
use crate::message::{Lineage, Message};

/// A transaction that is open, its type forgotten.
pub type OpenTransaction = Box<dyn Any + Send>;

/// What a lane does for a handler that works in a transaction. Implemented by the runtime, as [`Feed`] is.
pub trait Transact: Send {
    /// Begins a transaction whose first statement records `keys`, and puts it into the lane's slot if any of them is
    /// [`Reserved`](Reservation::Reserved). Answers what came of each.
    fn poll_begin(&mut self, keys: &[InboxKey], cx: &mut Context<'_>) -> Poll<Vec<Reservation>>;

    /// Commits what is in the slot, with `messages` in the outbox; they are taken on the first poll.
    ///
    /// Otherwise how the deliveries ended: nothing may be acked then.
    fn poll_commit(&mut self, deliveries: &[Delivery], messages: &mut Vec<Message>, cx: &mut Context<'_>) -> Poll<Result<(), Ended>>;

    /// Rolls back what is in the slot.
    fn poll_roll_back(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Where a lane's open transaction is while nobody uses it.
#[derive(Default)]
pub struct TransactionSlot(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    open: Option<OpenTransaction>,
    /// Counts transactions, so that one that comes back too late is not taken for its successor.
    number: u64,
    /// What the handler's `Context` published: commits with the transaction.
    messages: Vec<(Message, Duration)>,
}

impl TransactionSlot {
    /// Never held while user code runs.
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new transaction in.
    pub(crate) fn fill(&self, open: OpenTransaction) {
        let mut slot = self.lock();
        slot.number += 1;
        slot.messages.clear();
        slot.open = Some(open);
    }

    /// Takes the transaction for a handler, with its number; `None` when another parameter has it.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn lend(&self) -> Option<(OpenTransaction, u64)> {
        let mut slot = self.lock();
        let number = slot.number;
        slot.open.take().map(|open| (open, number))
    }

    /// Takes back what was lent; what comes after its attempt is dropped, and so rolled back.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn give_back(&self, open: OpenTransaction, number: u64) {
        let mut slot = self.lock();
        if slot.number == number && slot.open.is_none() {
            slot.open = Some(open);
        }
    }

    /// Which transaction it is by now.
    pub(crate) fn number(&self) -> u64 {
        self.lock().number
    }

    /// Keeps a message for the outbox; `false` when the transaction of that number is over.
    pub(crate) fn publish(&self, number: u64, message: Message, delay: Duration) -> bool {
        let mut slot = self.lock();
        let open = slot.number == number;
        if open {
            slot.messages.push((message, delay));
        }
        open
    }

    /// Takes what was published into the transaction of that number, to be written now.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn published(&self, number: u64) -> Vec<(Message, Duration)> {
        let mut slot = self.lock();
        if slot.number == number { std::mem::take(&mut slot.messages) } else { Vec::new() }
    }

    /// Ends the attempt: the transaction, unless somebody still has it, and what was published within.
    pub(crate) fn end(&self) -> (Option<OpenTransaction>, Vec<(Message, Duration)>) {
        let mut slot = self.lock();
        slot.number += 1;
        (slot.open.take(), std::mem::take(&mut slot.messages))
    }
}

impl fmt::Debug for TransactionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionSlot").finish_non_exhaustive()
    }
}

/// The loop of a handler that takes one message per call.
pub(super) async fn single(mut calls: Box<dyn Calls + '_>, feed: &mut dyn Feed) {
    let mut reply = Reply::new();
    while let Some(delivery) = poll_fn(|cx| feed.poll_next(cx)).await {
        let key = match open(&mut *calls, feed, &delivery) {
            Ok(key) => key,
            Err(ended) => {
                feed.done(delivery, None, ended);
                continue;
            }
        };
        if let Some(ended) = begin(feed, from_ref(&key)).await.into_iter().next().and_then(refusal) {
            let ended = forget(&mut *calls, 0).unwrap_or(ended);
            feed.done(delivery, None, ended);
            continue;
        }
        call(&mut *calls, feed, from_ref(&delivery), &mut reply).await;
        end(feed, from_ref(&delivery), &mut reply).await;
        feed.done(delivery, None, reply.take());
    }
}

/// Decodes and filters a delivery, and answers what its duplicates are recognised by.
pub(super) fn open(calls: &mut dyn Calls, feed: &mut dyn Feed, delivery: &Delivery) -> Result<InboxKey, Ended> {
    match guarded("the filter or the decoding", || {
        calls.open(Meta { message: &delivery.message, attempt: delivery.attempt, lane: feed.lane() })
    }) {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Err(Ended::Filtered),
        Ok(Err(unreadable)) => return Err(Ended::failed(kind_of(&unreadable), unreadable)),
        Err(panicked) => return Err(panicked),
    }
    key_of(calls, delivery)
}

/// Begins the transaction of a batch, and settles what does not belong to it: duplicates, and what runs elsewhere.
/// `false` when nothing is left.
pub(super) async fn begin_batch(calls: &mut dyn Calls, feed: &mut dyn Feed, batch: &mut Vec<Delivery>, keys: &mut Vec<InboxKey>) -> bool {
    let each = begin(feed, keys).await;
    keys.clear();
    for (index, ended) in each.into_iter().map(refusal).enumerate().rev() {
        let Some(ended) = ended else { continue };
        let ended = forget(calls, index).unwrap_or(ended);
        let delivery = batch.remove(index);
        feed.done(delivery, None, ended);
    }
    !batch.is_empty()
}

/// Begins a transaction that records keys. A key that stands twice is recorded once; the second waits for what becomes of
/// the first.
async fn begin(feed: &mut dyn Feed, keys: &[InboxKey]) -> Vec<Reservation> {
    let first_of = |index: usize| keys[..index].iter().all(|known| *known != keys[index]);
    // Most batches have no doubles, and need no second list.
    if (1..keys.len()).all(first_of) {
        return poll_fn(|cx| poll_begin(feed, keys, cx)).await;
    }
    let unique: Vec<InboxKey> = (0..keys.len()).filter(|index| first_of(*index)).map(|index| keys[index].clone()).collect();
    let mut answers = poll_fn(|cx| poll_begin(feed, &unique, cx)).await.into_iter();
    (0..keys.len()).map(|index| if first_of(index) { answers.next().unwrap_or(Reservation::Busy) } else { Reservation::Busy }).collect()
}

fn poll_begin(feed: &mut dyn Feed, keys: &[InboxKey], cx: &mut Context<'_>) -> Poll<Vec<Reservation>> {
    match feed.transact() {
        Some(lane) => lane.poll_begin(keys, cx),
        None => Poll::Ready(vec![Reservation::Busy; keys.len()]),
    }
}

fn refusal(reservation: Reservation) -> Option<Ended> {
    match reservation {
        Reservation::Reserved => None,
        Reservation::Applied => Some(Ended::Duplicate),
        Reservation::Busy => Some(Ended::Busy),
    }
}

/// Drops an opened message that is not handled; the event's own `Drop` may panic.
fn forget(calls: &mut dyn Calls, index: usize) -> Option<Ended> {
    guarded("dropping the event", || calls.forget(index)).err()
}

/// Commits when every message of the attempt succeeded, rolls back otherwise. Then what had succeeded comes again without
/// what failed, and costs no attempt: its effect was undone by a neighbour.
pub(super) async fn end(feed: &mut dyn Feed, deliveries: &[Delivery], reply: &mut Reply) {
    let beyond = reply.each.last_key_value().is_some_and(|(&index, _)| index >= deliveries.len());
    if !beyond && reply.is_success(deliveries.len()) {
        let mut messages = std::mem::take(&mut reply.publish);
        if let Some(cause) = deliveries.first().filter(|_| !messages.is_empty()) {
            let lineage = Lineage::of_effect(&cause.message);
            messages = messages.into_iter().map(|message| message.with_lineage(Some(lineage.clone()))).collect();
        }
        let committed = poll_fn(|cx| match feed.transact() {
            Some(lane) => lane.poll_commit(deliveries, &mut messages, cx),
            None => Poll::Ready(Err(Ended::failed(FailureKind::Error, "the lane has no transaction"))),
        });
        if let Err(ended) = committed.await {
            reply.fail(ended);
        }
        return;
    }
    poll_fn(|cx| feed.transact().map_or(Poll::Ready(()), |lane| lane.poll_roll_back(cx))).await;
    reply.publish.clear();
    reply.fail_successes(&Ended::Busy);
}

#[cfg(all(test, any(feature = "sqlite", feature = "postgres")))]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_comes_back_too_late_is_not_taken_for_the_next() {
        let slot = TransactionSlot::default();
        slot.fill(Box::new(1));
        let (open, number) = slot.lend().unwrap();
        assert!(slot.lend().is_none());
        slot.give_back(open, number);
        let (open, number) = slot.lend().unwrap();
        assert!(slot.end().0.is_none());
        slot.give_back(open, number);
        assert!(slot.end().0.is_none());
        slot.fill(Box::new(2));
        slot.give_back(Box::new(1), number);
        assert_eq!(*slot.end().0.unwrap().downcast::<i32>().unwrap(), 2);
    }
}
