//! Publishers that wait for room: one by one without an allocation, batches as futures.

use std::sync::Arc;
use std::task::{Context, Poll};

use slab::Slab;

use super::super::{Keeper, Origin, PublishFailure, Published};
use super::backlog::Entry as Stored;
use super::budget::Load;
use super::cycles::{BlockedId, Cycles};
use super::door::{Ask, Door, Entry, Ticket};
use super::queue::Queue;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::sync::{Mutex, lock};

/// A place in the line of a queue's door.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: Arc<Queue>,
    delayed: bool,
    ask: Ask,
    origin: Option<Origin>,
    ticket: Option<Ticket>,
    blocked: Option<BlockedId>,
}

impl Waiting {
    pub(super) fn new(queue: Arc<Queue>, delayed: bool, ask: Ask, origin: Option<Origin>) -> Self {
        Self { queue, delayed, ask, origin, ticket: None, blocked: None }
    }

    /// Waits for room; leaves the line when dropped.
    pub(super) async fn room(self, cycles: &Cycles) -> Result<Load> {
        struct Leaving<'a>(Waiting, &'a Cycles);
        impl Drop for Leaving<'_> {
            fn drop(&mut self) {
                self.0.leave(self.1);
            }
        }
        let mut leaving = Leaving(self, cycles);
        std::future::poll_fn(|cx| leaving.0.poll(cycles, cx)).await
    }

    fn poll(&mut self, cycles: &Cycles, cx: &mut Context<'_>) -> Poll<Result<Load>> {
        let door = self.door();
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => door.join(self.ask, cx.waker()),
        };
        let mut answer = door.poll(ticket, cx.waker());
        self.ticket = Some(ticket);
        if answer.is_pending()
            && self.blocked.is_none()
            && let Some(origin) = self.origin
        {
            self.blocked = Some(cycles.block(origin, &self.queue, self.delayed, ticket));
            // It may have been let in by this very look.
            answer = self.door().poll(ticket, cx.waker());
        }
        let Poll::Ready(entry) = answer else { return Poll::Pending };
        self.ticket = None;
        let path = self.blocked.take().and_then(|blocked| cycles.unblock(blocked));
        Poll::Ready(match entry {
            Entry::Granted(load) => Ok(load),
            Entry::Closed => Err(Error::new(ErrorKind::Closed, "the memory broker was closed while a publish waited for room")),
            Entry::Refused => {
                let (name, path) = (&self.queue.name, path.unwrap_or_default());
                let cure = "raise `output_buffer`, or publish less per event";
                Err(Error::new(
                    ErrorKind::Full,
                    format!("the queue of {name} is full and its handlers wait for each other ({path}): {cure}"),
                ))
            }
        })
    }

    fn leave(&mut self, cycles: &Cycles) {
        if let Some(ticket) = self.ticket.take() {
            self.door().leave(ticket);
            // Room that was granted and not used may have been the last that was taken.
            self.queue.quiet.tell();
        }
        if let Some(blocked) = self.blocked.take() {
            cycles.unblock(blocked);
        }
    }

    fn door(&self) -> &Door {
        if self.delayed { &self.queue.delayed } else { &self.queue.buffer }
    }
}

/// Single messages that wait for room in a single queue, by numbers; the slots are used again.
#[derive(Debug)]
pub(super) struct Singles {
    cycles: Arc<Cycles>,
    slots: Mutex<Slab<Option<(Waiting, Message)>>>,
}

impl Singles {
    pub(super) fn new(cycles: Arc<Cycles>) -> Self {
        Self { cycles, slots: Mutex::default() }
    }

    #[cold]
    pub(super) fn keep(&self, queue: &Arc<Queue>, message: Message, origin: Option<Origin>) -> usize {
        let load = Load::one(message.weight());
        let waiting = Waiting::new(queue.clone(), false, Ask { all: load, first: load }, origin);
        lock(&self.slots).insert(Some((waiting, message)))
    }

    fn take(&self, number: usize) -> Option<(Waiting, Message)> {
        lock(&self.slots).get_mut(number).and_then(Option::take)
    }
}

impl Keeper<Result<Published, PublishFailure>> for Singles {
    fn poll_kept(&self, number: usize, cx: &mut Context<'_>) -> Poll<Result<Published, PublishFailure>> {
        // Taken out while it is polled, so that nothing foreign runs under the lock.
        let Some((mut waiting, message)) = self.take(number) else { return Poll::Pending };
        let Poll::Ready(room) = waiting.poll(&self.cycles, cx) else {
            if let Some(slot) = lock(&self.slots).get_mut(number) {
                *slot = Some((waiting, message));
            }
            return Poll::Pending;
        };
        lock(&self.slots).try_remove(number);
        Poll::Ready(match room {
            Ok(_) => {
                waiting.queue.push(Stored::One(message));
                Ok(Published { deliveries: 1 })
            }
            Err(error) => Err(PublishFailure { stored: 0, error }),
        })
    }

    fn drop_kept(&self, number: usize) {
        let kept = lock(&self.slots).try_remove(number).flatten();
        if let Some((mut waiting, message)) = kept {
            waiting.leave(&self.cycles);
            drop(message);
        }
    }
}
