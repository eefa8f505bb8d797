//! The shorter ways within a process: a topic's queue for its publishers, and for lanes runs of messages instead of a
//! delivery each.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Answer, Delivery, Origin, PublishFailure, Published};
use crate::error::Result;
use crate::message::Message;

/// A way for single messages of one topic that need not be looked for each time; see [`Broker::route`](super::Broker::route).
pub trait Route: fmt::Debug + Send + Sync {
    /// Whether the subscriptions are still those for which it was worked out; otherwise another is to be asked for.
    fn is_current(&self) -> bool;

    /// Whether messages may go this way; otherwise the broker itself takes them.
    fn is_open(&self) -> bool;

    /// As [`Broker::publish`](super::Broker::publish), for a message without a delay.
    fn publish(&self, message: Message, origin: Option<Origin>) -> Answer<'_, Result<Published, PublishFailure>>;
}

/// What a consumer of this process offers beside [`Consumer::receive`](super::Consumer::receive) and
/// [`settle`](super::Consumer::settle): most messages are handed out for the first time and acked in order, and for those a
/// run of messages and a count say as much as a delivery and a settlement each.
///
/// Everything else goes the general way: what was handed out before comes as deliveries, and a message of a run that does
/// not simply end well becomes one by [`Local::delivery`], to be settled like any other. The contract of
/// [`Broker`](super::Broker) holds for both ways alike.
pub trait Local: Send + Sync {
    /// As [`Consumer::receive`](super::Consumer::receive): waits until something can be handed to a lane, and hands over at
    /// most `max`, either as messages in `run`, which is empty when this is called, or appended to `deliveries`.
    ///
    /// What is in `run` is handed out for the first time and counts as unsettled until it is acked or settled.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) after `close`.
    fn poll_take(&self, lane: u32, max: usize, run: &mut Run, deliveries: &mut Vec<Delivery>, cx: &mut Context<'_>) -> Poll<Result<()>>;

    /// A lane does not wait any more. Must be called when [`poll_take`](Local::poll_take) was pending and is given up.
    fn stop_taking(&self, lane: u32);

    /// Acks messages of a lane's run, which must be what the lane was handed and has not acked or settled yet.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) after the broker's `close`: none of them is acked.
    fn ack(&self, lane: u32, messages: &[Message]) -> Result<()>;

    /// The delivery of a message that was taken out of a lane's run, to be settled.
    fn delivery(&self, lane: u32, message: Message) -> Delivery;
}

/// Messages handed out together for the first time, oldest first: a lane's own, or a part of what subscriptions share.
#[derive(Default)]
pub struct Run {
    own: VecDeque<Message>,
    shared: Option<(Arc<Vec<Message>>, Range<usize>)>,
}

impl Run {
    /// An empty run.
    pub fn new() -> Self {
        Self::default()
    }

    /// The messages.
    #[inline]
    pub fn as_slice(&self) -> &[Message] {
        match &self.shared {
            Some((messages, range)) => messages.get(range.clone()).unwrap_or_default(),
            // Pushed into an empty queue only, so that it is in one piece.
            None => self.own.as_slices().0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shared.is_none() && self.own.is_empty()
    }

    /// Adds a message of the lane's own, behind others of its own.
    #[inline]
    pub fn push(&mut self, message: Message) {
        self.own.push_back(message);
    }

    /// As [`push`](Run::push), for several.
    pub fn extend(&mut self, messages: impl Iterator<Item = Message>) {
        self.own.extend(messages);
    }

    /// Makes it a part of shared messages. It must be empty.
    pub fn share(&mut self, messages: Arc<Vec<Message>>, range: Range<usize>) {
        self.shared = (!range.is_empty()).then_some((messages, range));
    }

    /// Drops the first messages. May run foreign code: an event's own `Drop`.
    pub fn advance(&mut self, count: usize) {
        if let Some((_, range)) = &mut self.shared {
            range.start += count;
            if range.start >= range.end {
                self.shared = None;
            }
        } else if count >= self.own.len() {
            // Not only emptied: what is pushed next begins at the start again, in one piece.
            self.own.clear();
        } else {
            self.own.drain(..count);
        }
    }

    /// Takes out what is behind the first messages.
    pub fn split_off(&mut self, at: usize) -> Vec<Message> {
        match &mut self.shared {
            Some((messages, range)) => {
                let behind = messages.get(range.start + at..range.end).map(<[Message]>::to_vec).unwrap_or_default();
                range.end = range.end.min(range.start + at);
                if range.start >= range.end {
                    self.shared = None;
                }
                behind
            }
            None => self.own.drain(at.min(self.own.len())..).collect(),
        }
    }

    /// Takes the first message out.
    pub fn pop(&mut self) -> Option<Message> {
        let message = match &self.shared {
            Some((messages, range)) => messages.get(range.start).cloned(),
            None => self.own.pop_front(),
        };
        self.advance(usize::from(self.shared.is_some()));
        message
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice().iter().map(Message::id)).finish()
    }
}
