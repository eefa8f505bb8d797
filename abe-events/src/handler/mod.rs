//! A handler: what `#[subscribe]` makes of a function, and how it is called.
//!
//! Types are erased once per subscription: a [`Worker`] is the loop that decodes, filters and calls one handler, and a
//! [`Feed`] is everything around it that does not depend on the handler's types.

mod attempt;
mod batch;
mod batched;
mod bind;
mod blocking;
mod descriptor;
mod extract;
mod feed;
mod meta;
mod outcome;
mod payload;
mod resolve;
mod single;
mod transact;
mod union;

pub use self::batch::{Batch, Iter};
pub use self::descriptor::{CrateLink, HandlerDescriptor, HeaderRule, Spec};
pub use self::extract::{Extractor, State};
pub use self::feed::{Beat, BoxWorker, Ended, Feed, InboxKey, Interrupt, Lent, Next, Reservation, Worker};
pub use self::meta::{Context, LaneContext, Meta};
pub use self::outcome::{BatchOutcome, IntoOutcome, Outcome, Reply};
pub use self::payload::{Form, Many, One, Own, Receive};
pub use self::resolve::{Resolver, States};
pub use self::transact::{OpenTransaction, Transact, TransactionSlot};

/// What generated code needs, and nobody else.
#[doc(hidden)]
pub mod generated {
    pub use super::bind::{Build, worker};
    pub use super::blocking::{Blocking, blocking};
    pub use super::extract::{Lent, LentExtractor, LentState, NoTransaction, Prepared, prepare};
    pub use super::payload::Receive;
    pub use super::union::UnionVariant;
}
