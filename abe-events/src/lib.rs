//! Declarative, loss-free event handling.
#![doc(test(attr(deny(warnings), allow(unused, unused_crate_dependencies))))]

pub mod broker;
pub mod config;
mod connect;
mod error;
mod event;
pub mod handler;
mod inbox;
mod lane_scope;
mod message;
mod panics;
pub mod policy;
mod publisher;
mod register;
mod registry;
pub mod runtime;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod topic;

pub use self::error::{BoxError, Classify, Error, ErrorKind, Result};
pub use self::event::{Event, EventDescriptor, Incoming, Location, Unreadable};
pub use self::handler::Context;
pub use self::message::{Body, Encoded, HEADER_BYTES_MAX, HEADER_COUNT_MAX, Headers, Id, Lineage, Message, PAYLOAD_BYTES_MAX, Payload};
pub use self::publisher::{Publish, Publishable, Publisher};
pub use self::runtime::{Runtime, RuntimeBuilder};
pub use self::topic::{NAME_BYTES_MAX, Name, SEGMENT_BYTES_MAX, Topic, TopicPattern};
