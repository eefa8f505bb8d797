//! One attempt: the handler's future, with a guard around every step of it that runs user code.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, ready};

use super::bind::Calls;
use super::feed::{Ended, Feed, InboxKey, Interrupt, Reservation};
use super::meta::Meta;
use super::outcome::{Outcome, Reply};
use crate::broker::{Delivery, FailureKind};
use crate::error::ErrorKind;
use crate::event::Unreadable;
use crate::lane_scope;
use crate::message::Lineage;
use crate::panics::text_of;
use crate::publisher::KEY_BYTES_MAX;

/// Where user code panicked, as failures say it.
pub(super) const OPENING: &str = "the filter or the decoding";
pub(super) const HANDLER: &str = "the handler";
pub(super) const DROPPING: &str = "dropping the handler's future";

/// Decodes, filters and reserves a delivery, and answers the key that is reserved for it, or how one ends that is not to be
/// handled. The delivery stays where it is: moving it in and out would cost more than all of this.
pub(super) async fn admit(calls: &mut dyn Calls, feed: &mut dyn Feed, delivery: &Delivery) -> Result<Option<InboxKey>, Ended> {
    match guarded(OPENING, || calls.open(Meta { message: &delivery.message, attempt: delivery.attempt, lane: feed.lane() })) {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Err(Ended::Filtered),
        Ok(Err(unreadable)) => return Err(undecodable(&unreadable)),
        Err(panicked) => return Err(panicked),
    }
    if feed.idempotent() { reserve(calls, feed, delivery).await.map(Some) } else { Ok(None) }
}

/// Reserves the key of a delivery that was opened.
async fn reserve(calls: &mut dyn Calls, feed: &mut dyn Feed, delivery: &Delivery) -> Result<InboxKey, Ended> {
    let key = key_of(calls, delivery)?;
    let ended = match poll_fn(|cx| feed.poll_reserve(&key, cx)).await {
        Reservation::Reserved => return Ok(key),
        Reservation::Applied => Ended::Duplicate,
        Reservation::Busy => Ended::Busy,
    };
    Err(forget_last(calls, ended))
}

/// What duplicates of the message opened last are recognised by: the user's expression, or its id.
pub(super) fn key_of(calls: &mut dyn Calls, delivery: &Delivery) -> Result<InboxKey, Ended> {
    let ended = match guarded("the idempotency key", || calls.key()) {
        Ok(None) => return Ok(InboxKey::Id(delivery.message.id().clone())),
        Ok(Some(text)) if text.len() <= KEY_BYTES_MAX => return Ok(InboxKey::Text(text)),
        Ok(Some(text)) => {
            let text = format!("the idempotency key has {} bytes, at most {KEY_BYTES_MAX} are allowed", text.len());
            Ended::failed(FailureKind::Permanent, text)
        }
        Err(panicked) => panicked,
    };
    Err(forget_last(calls, ended))
}

/// Drops the message opened last, which is not handled; the event's own `Drop` may run here, and panic.
fn forget_last(calls: &mut dyn Calls, ended: Ended) -> Ended {
    guarded("dropping the event", || calls.forget_last()).err().unwrap_or(ended)
}

/// Calls the handler with what was opened. What became of it, and what is to be published, stands in `reply`.
pub(super) async fn call(calls: &mut dyn Calls, feed: &mut dyn Feed, deliveries: &[Delivery], reply: &mut Reply) {
    let mut started = false;
    poll_fn(|cx| step(calls, feed, deliveries, reply, &mut started, cx)).await;
}

/// Calls the handler with what was opened, and publishes what it returned. What became of it stands in `reply`.
pub(super) async fn attempt(calls: &mut dyn Calls, feed: &mut dyn Feed, deliveries: &[Delivery], reply: &mut Reply) {
    let mut started = false;
    poll_fn(|cx| step(calls, feed, deliveries, reply, &mut started, cx)).await;
    if !reply.publish.is_empty() {
        publish(feed, deliveries, reply).await;
    }
}

/// One poll of the attempt; with the last one, the call is dropped and what became of it is noted.
fn step(
    calls: &mut dyn Calls,
    feed: &mut dyn Feed,
    deliveries: &[Delivery],
    reply: &mut Reply,
    started: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if !*started {
        feed.attempt_starts(deliveries.len());
    }
    feed.in_user_code(true);
    if let Some(first) = deliveries.first() {
        lane_scope::runs_for(&first.message);
    }
    let lane = feed.lane();
    let polled = guarded(HANDLER, || {
        if !*started {
            *started = true;
            calls.start(deliveries, lane)?;
        }
        Ok(calls.poll(cx, lane, reply))
    });
    let mut interrupt = None;
    if matches!(polled, Ok(Ok(Poll::Pending))) {
        feed.in_user_code(false);
        interrupt = Some(ready!(feed.poll_interrupt(cx)));
        feed.in_user_code(true);
    }
    // A handler that is ready at once is polled and dropped within one stretch of user code: entering costs.
    let dropped = guarded(DROPPING, || calls.clear());
    feed.in_user_code(false);
    match (polled, interrupt) {
        (Ok(Ok(_)), None) => {}
        (Ok(Ok(_)), Some(interrupt)) => reply.fail(interrupted(interrupt)),
        (Ok(Err(error)), _) => reply.fail(Outcome::of_error::<crate::Error>(&error)),
        (Err(panicked), _) => reply.fail(panicked),
    }
    if let Err(panicked) = dropped {
        reply.fail_successes(&panicked);
        reply.publish.clear();
    }
    feed.attempt_ends();
    Poll::Ready(())
}

/// How an attempt ends that was dropped.
pub(super) fn interrupted(interrupt: Interrupt) -> Ended {
    match interrupt {
        Interrupt::Timeout => Ended::failed(FailureKind::Timeout, "the attempt took longer than its timeout"),
        Interrupt::Cancelled => Ended::Cancelled,
    }
}

/// Publishes what the handler returned, as effects of the message, or of a batch's first message.
pub(super) async fn publish(feed: &mut dyn Feed, deliveries: &[Delivery], reply: &mut Reply) {
    let mut messages = std::mem::take(&mut reply.publish);
    if let Some(cause) = deliveries.first() {
        let lineage = Lineage::of_effect(&cause.message);
        messages = messages.into_iter().map(|message| message.with_lineage(Some(lineage.clone()))).collect();
    }
    feed.publish(messages);
    if let Err(error) = poll_fn(|cx| feed.poll_publish(cx)).await {
        // A shutdown of ours is not the handler's failure: it costs no attempt, and the message comes again.
        let closed = error.kind() == ErrorKind::Closed;
        reply.fail_successes(&if closed { Ended::Cancelled } else { Ended::failed(FailureKind::Publish, error) });
    }
}

/// Runs user code; a panic is a failure that says where it was.
pub(super) fn guarded<T>(place: &str, run: impl FnOnce() -> T) -> Result<T, Ended> {
    // What a panic leaves half-done is dropped before anything looks at it: `Calls::clear`, `Reply::fail`.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panicked(place, panic))
}

/// How a message ends whose user code panicked.
#[cold]
pub(super) fn panicked(place: &str, panic: Box<dyn Any + Send>) -> Ended {
    let ended = Ended::failed(FailureKind::Panic, format_args!("{place} panicked: {}", text_of(&*panic)));
    drop_quietly(panic);
    ended
}

/// Drops what a panic carried; even that may panic.
fn drop_quietly(panic: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        #[expect(clippy::mem_forget, reason = "a value whose drop panics with a value like itself has no end")]
        std::mem::forget(second);
    }
}

/// How a message ends that cannot be read.
pub(super) fn undecodable(unreadable: &Unreadable) -> Ended {
    Ended::failed(kind_of(unreadable), unreadable)
}

pub(super) fn kind_of(unreadable: &Unreadable) -> FailureKind {
    match unreadable {
        Unreadable::Newer { .. } | Unreadable::NoUpcast { .. } => FailureKind::Version,
        Unreadable::Malformed(_) | Unreadable::OtherTopic(_) => FailureKind::Undecodable,
    }
}
