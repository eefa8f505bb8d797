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
pub(super) struct Receiving<'a> {
    pub(super) inner: &'a Inner,
    pub(super) lane: u32,
    pub(super) max: usize,
    pub(super) into: Vec<Delivery>,
    wait: Wait,
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

impl<'a> Receiving<'a> {
    pub(super) fn new(inner: &'a Inner, lane: u32, max: usize, into: Vec<Delivery>) -> Self {
        Self { inner, lane, max, into, wait: Wait::default() }
    }

    /// Leaves where it waits, and says whether it was woken for a message.
    fn leave(&mut self) -> bool {
        let Some(spot) = self.wait.spot.take() else { return false };
        if let Some(lane) = self.inner.seat.lanes.get(self.lane as usize) {
            lane.idle.store(false, Ordering::SeqCst);
        }
        match spot {
            Spot::Message(place) => self.inner.queue.waiters.leave(place),
            Spot::Room(place) => {
                if self.inner.seat.room.leave(place) {
                    // The next one looks for itself; there may be room for both.
                    self.inner.seat.room.notify_one();
                }
                false
            }
        }
    }

    fn take(&mut self, cx: Option<&Context<'_>>) -> Taken {
        let inner = self.inner;
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
}

impl Future for Receiving<'_> {
    type Output = Result<Vec<Delivery>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let woken = this.leave();
        if this.inner.is_closed() {
            return Poll::Ready(Err(closed()));
        }
        let taken = this.take(None);
        if taken.count > 0 {
            return Poll::Ready(Ok(std::mem::take(&mut this.into)));
        }
        if woken && taken.full {
            // Woken for a message that this consumer may not hold: another one may.
            this.inner.queue.waiters.notify_one();
        }
        if !this.wait.yielded {
            this.wait.yielded = true;
            // Not a plain wake-up: tokio keeps this one back until its worker has nothing else to run, so that no other
            // worker is woken to steal the lane away from the publisher it is about to hear from.
            if std::pin::pin!(tokio::task::yield_now()).poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let spot = if taken.full {
            Spot::Room(this.inner.seat.room.enter(cx.waker()))
        } else {
            Spot::Message(this.inner.queue.waiters.enter(cx.waker()))
        };
        this.wait.spot = Some(spot);
        // What came before the place was taken was announced to nobody: look once more.
        let again = this.take(Some(cx));
        if again.count > 0 || again.full != taken.full || this.inner.is_closed() {
            if this.leave() {
                this.inner.queue.waiters.notify_one();
            }
            if again.count > 0 {
                return Poll::Ready(Ok(std::mem::take(&mut this.into)));
            }
            this.inner.queue.stop_keeping(&this.inner.seat, this.lane);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.arm(again.look_again, cx);
        if let Some(lane) = this.inner.seat.lanes.get(this.lane as usize) {
            lane.idle.store(true, Ordering::SeqCst);
        }
        this.inner.cycles.lane_parked();
        Poll::Pending
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        if self.wait.spot.is_none() {
            return;
        }
        if self.leave() {
            self.inner.queue.waiters.notify_one();
        }
        self.inner.queue.stop_keeping(&self.inner.seat, self.lane);
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the memory broker or this consumer is closed")
}
