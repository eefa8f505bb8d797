//! Waiting for deliveries: look, let others run once, look again, and only then park.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::super::Delivery;
use super::consumer::Inner;
use super::handout::Taken;
use super::waiters::Place;
use crate::error::{Error, ErrorKind, Result};

/// A `receive` that found nothing at once.
#[derive(Debug)]
pub(super) struct Receiving {
    lane: u32,
    max: usize,
    into: Vec<Delivery>,
    wait: Wait,
}

/// The same as a future, for a lane that asks twice at the same time.
#[derive(Debug)]
pub(super) struct ReceivingBeside<'a> {
    pub(super) inner: &'a Inner,
    pub(super) receiving: Receiving,
}

/// How far the waiting has come.
#[derive(Debug, Default)]
struct Wait {
    /// Whether it let others run: a burst is then produced and consumed on one worker thread, which is worth more than
    /// anything else here.
    yielded: bool,
    spot: Option<Spot>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Where a parked lane waits.
#[derive(Debug, Clone, Copy)]
enum Spot {
    /// For a message.
    Message(Place),
    /// For its consumer to hold less.
    Room(Place),
}

impl Receiving {
    pub(super) fn new(lane: u32, max: usize, into: Vec<Delivery>) -> Self {
        Self { lane, max, into, wait: Wait::default() }
    }

    /// Leaves where it waits, and says whether it was woken for a message.
    fn leave(&mut self, inner: &Inner) -> bool {
        let Some(spot) = self.wait.spot.take() else { return false };
        if let Some(lane) = inner.seat.lanes.get(self.lane as usize) {
            lane.idle.store(false, Ordering::SeqCst);
        }
        match spot {
            Spot::Message(place) => inner.queue.waiters.leave(place),
            Spot::Room(place) => {
                if inner.seat.room.leave(place) {
                    // The next one looks for itself; there may be room for both.
                    inner.seat.room.notify_one();
                }
                false
            }
        }
    }

    fn take(&mut self, inner: &Inner, cx: Option<&Context<'_>>) -> Taken {
        inner.queue.take(&inner.seat, self.lane, self.max, &mut self.into, cx.map(Context::waker))
    }

    fn arm(&mut self, look_again: Option<Instant>, cx: &mut Context<'_>) {
        let Some(at) = look_again else {
            self.wait.timer = None;
            return;
        };
        let timer = match &mut self.wait.timer {
            Some(timer) => {
                timer.as_mut().reset(at);
                timer
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(at))),
        };
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    pub(super) fn poll(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Result<Vec<Delivery>>> {
        let woken = self.leave(inner);
        if inner.is_closed() {
            return Poll::Ready(Err(closed()));
        }
        let taken = self.take(inner, None);
        if taken.count > 0 {
            return Poll::Ready(Ok(std::mem::take(&mut self.into)));
        }
        if woken && taken.full {
            // Woken for a message that this consumer may not hold: another one may.
            inner.queue.waiters.notify_one();
        }
        if !self.wait.yielded {
            self.wait.yielded = true;
            // Not a plain wake-up: tokio keeps this one back until its worker has nothing else to run, so that no other
            // worker is woken to steal the lane away from the publisher it is about to hear from.
            if std::pin::pin!(tokio::task::yield_now()).poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        self.park(inner, taken.full, cx)
    }

    fn park(&mut self, inner: &Inner, full: bool, cx: &mut Context<'_>) -> Poll<Result<Vec<Delivery>>> {
        self.wait.spot =
            Some(if full { Spot::Room(inner.seat.room.enter(cx.waker())) } else { Spot::Message(inner.queue.waiters.enter(cx.waker())) });
        // What came before the place was taken was announced to nobody: look once more.
        let again = self.take(inner, Some(cx));
        if again.count > 0 || again.full != full || inner.is_closed() {
            if self.leave(inner) {
                inner.queue.waiters.notify_one();
            }
            if again.count > 0 {
                return Poll::Ready(Ok(std::mem::take(&mut self.into)));
            }
            inner.queue.stop_keeping(&inner.seat, self.lane);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.arm(again.look_again, cx);
        if let Some(lane) = inner.seat.lanes.get(self.lane as usize) {
            lane.idle.store(true, Ordering::SeqCst);
        }
        inner.cycles.lane_parked();
        Poll::Pending
    }

    /// It is not wanted any more.
    pub(super) fn cancel(&mut self, inner: &Inner) {
        if self.wait.spot.is_none() {
            return;
        }
        if self.leave(inner) {
            inner.queue.waiters.notify_one();
        }
        inner.queue.stop_keeping(&inner.seat, self.lane);
    }
}

impl Future for ReceivingBeside<'_> {
    type Output = Result<Vec<Delivery>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.receiving.poll(this.inner, cx)
    }
}

impl Drop for ReceivingBeside<'_> {
    fn drop(&mut self) {
        self.receiving.cancel(self.inner);
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the memory broker or this consumer is closed")
}
