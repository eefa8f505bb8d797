//! A handler: what `#[subscribe]` makes of a function, and how it is called.
//!
//! Types are erased once per subscription: a [`Worker`] is the monomorphic loop that decodes, filters and calls one
//! handler, and a [`Feed`] is everything around it that does not depend on the handler's types.

mod descriptor;
mod feed;

pub use self::descriptor::{CrateLink, HandlerDescriptor, HeaderRule, Spec};
pub use self::feed::{BoxWorker, Ended, Feed, InboxKey, Interrupt, Reservation, Worker};

mod meta;
mod resolve;

pub use self::meta::{Context, LaneContext, Meta};
pub use self::resolve::{Resolver, States};
