//! Where an event comes from: correlation, causation, and the path of topics that led to it.

use std::fmt;
use std::sync::Arc;

use super::{Id, Message, PlainId};
use crate::topic::Topic;

/// The chain of events behind a message. Set by the runtime when a handler publishes, never by the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Lineage {
    correlation_id: Id,
    causation_id: Id,
    hops: u32,
    /// The topic of the event that caused this one, and what stands behind that.
    cause: Topic,
    parent: Option<Arc<Lineage>>,
}

/// What a lineage takes from the message that is the cause: cheap to take, for messages of which most cause nothing.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(super) id: Id,
    pub(super) topic: Topic,
    pub(super) lineage: Option<Arc<Lineage>>,
}

/// The cause most messages are: one with an id of ours and a declared topic, that began its chain. Nothing in it is counted, so
/// that noting it is a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainCause {
    pub(super) id: PlainId,
    pub(super) topic: &'static str,
}

impl From<PlainCause> for Cause {
    fn from(cause: PlainCause) -> Self {
        Self { id: cause.id.into(), topic: Topic::from_static(cause.topic), lineage: None }
    }
}

impl Lineage {
    /// The lineage of whatever a handler of `cause` publishes.
    pub fn of_effect(cause: &Message) -> Arc<Self> {
        Self::of(cause.as_cause())
    }

    /// The same, of what was taken of the message.
    pub(crate) fn of(cause: Cause) -> Arc<Self> {
        let Cause { id, topic, lineage } = cause;
        Arc::new(Self {
            correlation_id: lineage.as_ref().map_or(&id, |lineage| &lineage.correlation_id).clone(),
            causation_id: id,
            hops: lineage.as_ref().map_or(0, |lineage| lineage.hops).saturating_add(1),
            cause: topic,
            parent: lineage,
        })
    }

    /// A lineage read from outside, where the path is not known beyond its last step.
    pub fn received(correlation_id: Id, causation_id: Id, hops: u32, cause: Topic) -> Arc<Self> {
        Arc::new(Self { correlation_id, causation_id, hops, cause, parent: None })
    }

    /// A lineage read from outside with its path, oldest topic first; `None` for an empty path.
    pub(crate) fn received_along(correlation_id: &Id, causation_id: &Id, hops: u32, path: Vec<Topic>) -> Option<Arc<Self>> {
        let step = |parent, cause| {
            Some(Arc::new(Self { correlation_id: correlation_id.clone(), causation_id: causation_id.clone(), hops, cause, parent }))
        };
        path.into_iter().fold(None, step)
    }

    /// The id of the event that began the chain.
    pub fn correlation_id(&self) -> &Id {
        &self.correlation_id
    }

    /// The id of the event whose handler published this one.
    pub fn causation_id(&self) -> &Id {
        &self.causation_id
    }

    /// How many handlers the chain has passed.
    pub fn hops(&self) -> u32 {
        self.hops
    }

    /// The topics of the chain, oldest first, without the message's own.
    pub fn path(&self) -> Vec<&Topic> {
        let mut path = vec![&self.cause];
        let mut next = self.parent.as_deref();
        while let Some(lineage) = next {
            path.push(&lineage.cause);
            next = lineage.parent.as_deref();
        }
        path.reverse();
        path
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lineage")
            .field("correlation_id", &self.correlation_id)
            .field("causation_id", &self.causation_id)
            .field("hops", &self.hops)
            .field("path", &self.path())
            .finish()
    }
}
