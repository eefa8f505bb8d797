//! The way straight to a topic's only queue, worked out once for a publisher.

use std::sync::Arc;

use super::super::{Answer, Origin, PublishFailure, Published, Route};
use super::backlog::Entry;
use super::budget::Load;
use super::queue::Queue;
use super::routes::Routes;
use super::waiting::Singles;
use crate::error::Result;
use crate::message::Message;
use crate::policy::WhenFull;

/// A topic's queue, as long as the subscriptions stay as they were when it was worked out.
#[derive(Debug)]
pub(super) struct Direct {
    routes: Arc<Routes>,
    singles: Arc<Singles>,
    queue: Arc<Queue>,
    /// Which subscriptions there were.
    epoch: u64,
    /// Whether it is the topic's only one.
    is_only: bool,
}

impl Direct {
    /// The way to the first of a topic's queues; `None` when there is none.
    pub(super) fn new(routes: Arc<Routes>, singles: Arc<Singles>, epoch: u64, queues: &[Arc<Queue>]) -> Option<Self> {
        let queue = queues.first()?.clone();
        Some(Self { routes, singles, queue, epoch, is_only: queues.len() == 1 })
    }
}

impl Route for Direct {
    fn is_current(&self) -> bool {
        self.routes.epoch() == self.epoch
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.is_only && self.is_current() && !self.queue.is_closed() && self.queue.when_full() == WhenFull::Wait
    }

    fn publish(&self, message: Message, origin: Option<Origin>) -> Answer<'_, Result<Published, PublishFailure>> {
        if !self.queue.buffer.try_enter(Load::one(message.weight())) {
            return Answer::kept(&*self.singles, self.singles.keep(&self.queue, message, origin));
        }
        self.queue.push(Entry::One(message));
        Answer::ready(Ok(Published { deliveries: 1 }))
    }
}
