//! What a handler can know and do beside its message: [`Context`].

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::transact::TransactionSlot;
use crate::broker::Origin;
use crate::error::Result;
use crate::message::{Headers, Id, Lineage, Message};
use crate::publisher::{Publish, Publishable, Publisher};
use crate::topic::{Name, Topic};

/// What is the same for all messages of a lane.
#[derive(Debug, Clone)]
pub struct LaneContext {
    /// The subscription's name.
    pub subscription: Name,
    /// Publishes for handlers, marked as coming from this lane.
    pub publisher: Publisher,
    /// Which lane this is.
    pub origin: Origin,
    /// Where the handler's transaction is, if it works in one.
    pub transaction: Option<Arc<TransactionSlot>>,
}

/// What extractors see of a message; in a batch, of its first.
#[derive(Debug, Clone, Copy)]
pub struct Meta<'a> {
    /// The message.
    pub message: &'a Message,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The lane.
    pub lane: &'a LaneContext,
}

impl<'a> Meta<'a> {
    /// The message.
    pub fn message(&self) -> &'a Message {
        self.message
    }
}

/// The message beside its payload, and the way to publish from within a handler.
///
/// What is published through it carries the correlation id on, names this message as its cause, and is one hop further.
/// In a batch handler it stands for the batch's first message.
#[derive(Clone)]
pub struct Context {
    message: Message,
    attempt: u32,
    subscription: Name,
    publisher: Publisher,
    lineage: Arc<Lineage>,
    /// The transaction that publishes belong to, and which one it is.
    transaction: Option<(Arc<TransactionSlot>, u64)>,
}

impl Context {
    pub(crate) fn new(meta: Meta<'_>) -> Self {
        let message = meta.message.clone();
        Self {
            attempt: meta.attempt,
            subscription: meta.lane.subscription.clone(),
            publisher: meta.lane.publisher.clone(),
            lineage: Lineage::of_effect(&message),
            transaction: meta.lane.transaction.as_ref().map(|slot| (slot.clone(), slot.number())),
            message,
        }
    }

    /// The message's id: the same on every attempt.
    pub fn id(&self) -> &Id {
        self.message.id()
    }

    /// The topic it was published to.
    pub fn topic(&self) -> &Topic {
        self.message.topic()
    }

    /// The contract version it was written in.
    pub fn version(&self) -> u32 {
        self.message.version()
    }

    /// When the event happened.
    pub fn time(&self) -> SystemTime {
        self.message.time()
    }

    /// Its key, if the event has one.
    pub fn key(&self) -> Option<&str> {
        self.message.key()
    }

    /// The user's headers.
    pub fn headers(&self) -> &Headers {
        self.message.headers()
    }

    /// The id of the event that began the chain.
    pub fn correlation_id(&self) -> &Id {
        self.message.correlation_id()
    }

    /// The id of the event whose handler published this one.
    pub fn causation_id(&self) -> Option<&Id> {
        self.message.causation_id()
    }

    /// How many handlers the chain has passed.
    pub fn hops(&self) -> u32 {
        self.message.hops()
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The subscription's name.
    pub fn subscription(&self) -> &str {
        self.subscription.as_str()
    }

    /// The whole message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Publishes an event that this one caused. In a handler that takes a `Tx` it goes into the outbox of its transaction:
    /// nobody sees it unless that commits.
    ///
    /// # Errors
    ///
    /// As [`Runtime::publish`](crate::Runtime::publish).
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting, the outcome is unknown: the event may be published. A retried handler publishes it again
    /// under another id, unless it sets one.
    pub async fn publish<P: Publishable>(&self, event: P) -> Result<Id> {
        if self.transaction.is_some() {
            return self.publishing(event).send().await;
        }
        self.publisher.send(self.publisher.message(event)?.with_lineage(Some(self.lineage.clone()))).await
    }

    /// Publishes with a delay, headers, a key or an id of the user's.
    pub fn publishing<P: Publishable>(&self, event: P) -> Publish<'_> {
        self.publisher.publishing(event).caused_by(self.lineage.clone()).within(self.transaction.as_ref())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("subscription", &self.subscription)
            .field("attempt", &self.attempt)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}
