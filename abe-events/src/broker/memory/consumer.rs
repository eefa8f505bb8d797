//! The consumer of a subscription of the memory broker.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::super::{Answer, Consumer, ConsumerId, Delivery, Depth, Keeper, Local, Run, Settled, Settlement, Token};
use super::budget::Load;
use super::cycles::Cycles;
use super::handout::Hands;
use super::letters::Letters;
use super::queue::Queue;
use super::receive::{Receiving, ReceivingBeside, closed};
use super::seat::Seat;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::sync::{Mutex, lock};

/// What a consumer works with.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) queue: Arc<Queue>,
    pub(super) seat: Arc<Seat>,
    pub(super) letters: Arc<Letters>,
    pub(super) cycles: Arc<Cycles>,
}

impl Inner {
    pub(super) fn is_closed(&self) -> bool {
        self.seat.is_closed() || self.queue.is_closed()
    }

    fn close(&self) {
        if self.seat.close() {
            self.queue.leave(&self.seat);
            self.cycles.lane_parked();
        }
    }
}

/// A consumer. Dropping it is closing it.
#[derive(Debug)]
pub(super) struct MemoryConsumer {
    inner: Inner,
    /// What each lane waits for. Taken out while it is polled, so that nothing foreign runs under the lock.
    receiving: Box<[Mutex<Slot>]>,
    /// The same for lanes that take runs.
    taking: Box<[Mutex<Option<Receiving>>]>,
}

#[derive(Debug, Default)]
struct Slot {
    taken: bool,
    receiving: Option<(Receiving, Vec<Delivery>)>,
}

impl MemoryConsumer {
    pub(super) fn new(inner: Inner) -> Self {
        let receiving = inner.seat.lanes.iter().map(|_| Mutex::default()).collect();
        Self { receiving, taking: inner.seat.lanes.iter().map(|_| Mutex::default()).collect(), inner }
    }

    fn no_such_lane(&self, lane: u32) -> Error {
        let text = format!("lane {lane} asks for deliveries, the subscription was made with {}", self.inner.seat.lanes.len());
        Error::new(ErrorKind::Config, text)
    }

    fn wait(&self, lane: u32, receiving: Receiving, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        if let Some(slot) = self.receiving.get(lane as usize) {
            let mut slot = lock(slot);
            if !slot.taken {
                *slot = Slot { taken: true, receiving: Some((receiving, into)) };
                return Answer::kept(self, lane as usize);
            }
        }
        Answer::later(ReceivingBeside { inner: &self.inner, receiving, into })
    }
}

impl Keeper<Result<Vec<Delivery>>> for MemoryConsumer {
    fn poll_kept(&self, lane: usize, cx: &mut Context<'_>) -> Poll<Result<Vec<Delivery>>> {
        let Some(slot) = self.receiving.get(lane) else { return Poll::Ready(Err(closed())) };
        let Some((mut receiving, mut into)) = lock(slot).receiving.take() else { return Poll::Ready(Err(closed())) };
        let answer = receiving.poll(&self.inner, &mut Hands { run: None, deliveries: &mut into }, cx);
        match answer {
            Poll::Ready(answer) => {
                lock(slot).taken = false;
                Poll::Ready(answer.map(|()| into))
            }
            Poll::Pending => {
                lock(slot).receiving = Some((receiving, into));
                Poll::Pending
            }
        }
    }

    fn drop_kept(&self, lane: usize) {
        let Some(slot) = self.receiving.get(lane) else { return };
        let receiving = std::mem::take(&mut *lock(slot)).receiving;
        if let Some((mut receiving, _)) = receiving {
            receiving.cancel(&self.inner);
        }
    }
}

impl Local for MemoryConsumer {
    fn poll_take(&self, lane: u32, max: usize, run: &mut Run, deliveries: &mut Vec<Delivery>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(slot) = self.taking.get(lane as usize) else { return Poll::Ready(Err(self.no_such_lane(lane))) };
        let mut receiving = lock(slot).take().unwrap_or_else(|| Receiving::new(lane, max));
        let answer = receiving.poll(&self.inner, &mut Hands { run: Some(run), deliveries }, cx);
        if answer.is_pending() {
            *lock(slot) = Some(receiving);
        }
        answer
    }

    fn stop_taking(&self, lane: u32) {
        let taking = self.taking.get(lane as usize).and_then(|slot| lock(slot).take());
        if let Some(mut receiving) = taking {
            receiving.cancel(&self.inner);
        }
    }

    fn ack(&self, lane: u32, messages: &[Message]) -> Result<()> {
        let Inner { queue, seat, .. } = &self.inner;
        if queue.is_closed() {
            return Err(closed());
        }
        let mut load = Load::default();
        messages.iter().for_each(|message| load.add(Load::one(message.weight())));
        seat.take_back(lane, messages.len());
        queue.end_all(load);
        Ok(())
    }

    fn delivery(&self, lane: u32, message: Message) -> Delivery {
        Delivery { message, attempt: 1, token: self.inner.seat.token(lane), failures: None }
    }
}

impl Consumer for MemoryConsumer {
    fn id(&self) -> ConsumerId {
        self.inner.seat.id
    }

    fn receive(&self, lane: u32, max: usize, mut into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Answer::ready(Err(closed()));
        }
        if lane as usize >= inner.seat.lanes.len() {
            return Answer::ready(Err(self.no_such_lane(lane)));
        }
        if max == 0 {
            return Answer::ready(Ok(into));
        }
        if inner.queue.take(&inner.seat, lane, max, Hands { run: None, deliveries: &mut into }, None).count > 0 {
            return Answer::ready(Ok(into));
        }
        self.wait(lane, Receiving::new(lane, max), into)
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        let inner = &self.inner;
        if !inner.queue.is_closed() {
            return Answer::ready(inner.queue.settle(&inner.seat, &inner.letters, settlements));
        }
        let mut settled = Settled::default();
        let mut settlements = settlements;
        settled.failed.extend(settlements.drain(..).map(|settlement| (settlement, closed())));
        settled.emptied = settlements;
        Answer::ready(settled)
    }

    fn local(&self) -> Option<&dyn Local> {
        // A lease and an order are kept for each message.
        (self.inner.seat.lease.is_none() && !self.inner.queue.is_ordered()).then_some(self)
    }

    fn renew<'a>(&'a self, tokens: &'a [Token]) -> Answer<'a, Result<Vec<Token>>> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Answer::ready(Err(closed()));
        }
        let Some(lease) = inner.seat.lease else {
            let lost = tokens.iter().copied().filter(|token| inner.seat.lane_of(*token).is_none()).collect();
            return Answer::ready(Ok(lost));
        };
        let now = Instant::now();
        let until = now.checked_add(lease).unwrap_or(now);
        let mut state = lock(&inner.queue.state);
        // A lease whose time is over is lost even if nobody has taken the message yet.
        let lost = tokens.iter().copied().filter(|token| {
            let stands = state.leases.get(*token).is_some_and(|lease| lease.consumer == inner.seat.id && lease.until > now);
            !(stands && state.leases.renew(*token, until))
        });
        Answer::ready(Ok(lost.collect()))
    }

    fn depth(&self) -> Depth {
        self.inner.queue.depth()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close();
        Answer::ready(Ok(()))
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.inner.close();
    }
}
