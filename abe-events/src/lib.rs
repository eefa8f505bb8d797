//! Declarative, loss-free event handling.
#![doc(test(attr(deny(warnings), allow(unused, unused_crate_dependencies))))]

pub mod broker;
mod error;
mod event;
pub mod handler;
mod lane_scope;
mod message;
mod panics;
pub mod policy;
mod publisher;
mod sync;
mod topic;

pub use self::error::{BoxError, Classify, Error, ErrorKind, Result};
pub use self::event::{Event, EventDescriptor, Incoming, Location, Unreadable};
pub use self::handler::Context;
pub use self::message::{Body, Encoded, HEADER_BYTES_MAX, HEADER_COUNT_MAX, Headers, Id, Lineage, Message, PAYLOAD_BYTES_MAX, Payload};
pub use self::publisher::{Publish, Publishable, Publisher};
pub use self::topic::{NAME_BYTES_MAX, Name, SEGMENT_BYTES_MAX, Topic, TopicPattern};
