//! Waiting for deliveries: look, take a place, look again, and park.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::super::Delivery;
use super::consumer::Inner;
use super::handout::{Hands, Taken};
use super::waiters::Place;
use crate::error::{Error, ErrorKind, Result};

/// A `receive` that found nothing at once.
#[derive(Debug)]
pub(super) struct Receiving {
    lane: u32,
    max: usize,
    wait: Wait,
}

/// The same as a future, for a lane that asks twice at the same time.
#[derive(Debug)]
pub(super) struct ReceivingBeside<'a> {
    pub(super) inner: &'a Inner,
    pub(super) receiving: Receiving,
    pub(super) into: Vec<Delivery>,
}

/// How far the waiting has come.
#[derive(Debug, Default)]
struct Wait {
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
    pub(super) fn new(lane: u32, max: usize) -> Self {
        Self { lane, max, wait: Wait::default() }
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

    fn take(&self, inner: &Inner, into: &mut Hands<'_>, cx: Option<&Context<'_>>) -> Taken {
        let into = Hands { run: into.run.as_deref_mut(), deliveries: into.deliveries };
        inner.queue.take(&inner.seat, self.lane, self.max, into, cx.map(Context::waker))
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

    /// Ready when something is in `into`.
    pub(super) fn poll(&mut self, inner: &Inner, into: &mut Hands<'_>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let woken = self.leave(inner);
        if inner.is_closed() {
            return Poll::Ready(Err(closed()));
        }
        let taken = self.take(inner, into, None);
        if taken.count > 0 {
            return Poll::Ready(Ok(()));
        }
        if woken && taken.full {
            // Woken for a message that this consumer may not hold: another one may.
            inner.queue.waiters.notify_one();
        }
        self.park(inner, taken.full, into, cx)
    }

    fn park(&mut self, inner: &Inner, full: bool, into: &mut Hands<'_>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.wait.spot = Some(if full {
            Spot::Room(inner.seat.room.enter(cx.waker(), 1))
        } else {
            Spot::Message(inner.queue.waiters.enter(cx.waker(), self.max))
        });
        // What came before the place was taken was announced to nobody: look once more.
        let again = self.take(inner, into, Some(cx));
        if again.count > 0 || again.full != full || inner.is_closed() {
            if self.leave(inner) {
                inner.queue.waiters.notify_one();
            }
            if again.count > 0 {
                return Poll::Ready(Ok(()));
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
        let mut into = Hands { run: None, deliveries: &mut this.into };
        this.receiving.poll(this.inner, &mut into, cx).map_ok(|()| std::mem::take(&mut this.into))
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
