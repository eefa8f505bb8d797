//! What a publisher hands to a broker.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::message::Message;

/// One call of `publish`.
#[derive(Debug)]
pub struct Outgoing {
    /// The messages.
    pub messages: Messages,
    /// The shortest time until they are handed out.
    pub delay: Duration,
    /// The lane whose handler publishes, if one does: its queue cannot be drained while it waits.
    pub origin: Option<Origin>,
}

/// One message without a vector around it, or several.
#[derive(Debug)]
pub enum Messages {
    /// One.
    One(Message),
    /// Several, in order.
    Many(Vec<Message>),
}

impl Messages {
    /// The messages in order.
    pub fn as_slice(&self) -> &[Message] {
        match self {
            Self::One(message) => std::slice::from_ref(message),
            Self::Many(messages) => messages,
        }
    }
}

/// Tells a consumer from all others of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConsumerId(pub u64);

/// The lane in whose handler a publish was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Its consumer.
    pub consumer: ConsumerId,
    /// Its number, from 0.
    pub lane: u32,
}

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// How many deliveries were stored: one for each message and subscription that takes it.
    pub deliveries: u64,
}

/// A publish that failed, at once or half-way.
#[derive(Debug)]
pub struct PublishFailure {
    /// How many messages, from the first, are stored for every subscription.
    pub stored: usize,
    /// Why the next one is not, or may not be.
    pub error: Error,
}

impl fmt::Display for PublishFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} stored before)", self.error, self.stored)
    }
}

impl From<PublishFailure> for Error {
    fn from(failure: PublishFailure) -> Self {
        if failure.stored == 0 { failure.error } else { failure.error.context(format_args!("after {} messages", failure.stored)) }
    }
}
