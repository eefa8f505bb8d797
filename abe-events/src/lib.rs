//! Declarative, loss-free event handling.
#![doc(test(attr(deny(warnings), allow(unused, unused_crate_dependencies))))]

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod broker;
pub mod config;
mod connect;
mod contract;
mod error;
mod event;
pub mod handler;
mod inbox;
mod lane_scope;
mod message;
mod mutant;
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
pub mod wire;

/// `handlers![bill, orders::ship]`: a list of handlers by the paths of their functions, for a builder that is to run
/// these and no others.
///
/// A function is named by its own path: `use orders::ship` brings in the function only, not its descriptor.
///
/// ```
/// # use abe_events::{event, handlers, subscribe};
/// # #[event(topic = "tick")] struct Tick;
/// mod orders {
///     #[abe_events::subscribe]
///     pub async fn ship(_tick: &super::Tick) {}
/// }
///
/// #[subscribe]
/// async fn bill(_tick: &Tick) {}
///
/// # fn main() {
/// assert_eq!(handlers![bill, orders::ship].len(), 2);
/// # }
/// ```
#[cfg(feature = "macros")]
#[macro_export]
macro_rules! handlers {
    ($($handler:tt)*) => {
        $crate::__private::__handlers!($crate; $($handler)*)
    };
}

/// `link!(orders, billing)`: names crates of handlers, so that they are linked.
///
/// A crate that stands in `Cargo.toml` but is never named is not linked by rustc, and no registry can find what it
/// declares. Each crate named must contribute at least one event or handler, or the runtime refuses to start. A
/// dependency that was renamed is named by its own name, with `use renamed as _;` beside it.
#[macro_export]
macro_rules! link {
    ($($krate:ident),+ $(,)?) => {
        $(
            #[allow(unused_imports)]
            use ::$krate as _;
        )+
        const _: () = {
            static LINK: $crate::handler::CrateLink =
                $crate::handler::CrateLink { crates: &[$(::core::stringify!($krate)),+], at: $crate::__private::here!() };
            $crate::__private::register!(crates &LINK);
        };
    };
}

#[cfg(feature = "macros")]
#[doc = include_str!("docs/data.md")]
pub use abe_events_macros::data;
#[cfg(feature = "macros")]
#[doc = include_str!("docs/event.md")]
pub use abe_events_macros::event;
#[cfg(feature = "macros")]
#[doc = include_str!("docs/subscribe.md")]
pub use abe_events_macros::subscribe;
#[cfg(feature = "macros")]
#[doc = include_str!("docs/test.md")]
pub use abe_events_macros::test;

pub use self::error::{BoxError, Classify, Error, ErrorKind, Result};
pub use self::event::{Event, EventDescriptor, Incoming, Location, Unreadable};
pub use self::handler::{Batch, BatchOutcome, Context, Outcome, State};
pub use self::message::{Body, Encoded, HEADER_BYTES_MAX, HEADER_COUNT_MAX, Headers, Id, Lineage, Message, PAYLOAD_BYTES_MAX, Payload};
pub use self::publisher::{KEY_BYTES_MAX, Publish, Publishable, Publisher};
pub use self::runtime::{Runtime, RuntimeBuilder};
pub use self::topic::{NAME_BYTES_MAX, Name, SEGMENT_BYTES_MAX, Topic, TopicPattern};
