//! Event handling for services, declared instead of wired.
//!
//! Events are typed structs, handlers are functions, and attributes say what is to become of them. What lies between
//! "published" and "handled" is the runtime's: acks, retries, dead letters, batches, filters, duplicates, versions,
//! order per key, backpressure, shutdown. Handlers are found at link time.
//!
//! ```
//! use abe_events::config::Config;
//! use abe_events::{Context, Result, Runtime, event, handlers, subscribe};
//!
//! /// A customer placed an order.
//! #[event(topic = "order.created", version = "v2", key = user_id)]
//! struct OrderCreated {
//!     order_id: u64,
//!     user_id: u64,
//!     amount: f64,
//! }
//!
//! #[event(topic = "review.requested")]
//! struct ReviewRequested {
//!     order_id: u64,
//! }
//!
//! #[subscribe(filter = |order| order.amount > 100.0, retry(attempts = 5, max = "30s"))]
//! async fn review(order: &OrderCreated, ctx: &Context) -> Result<()> {
//!     ctx.publish(ReviewRequested { order_id: order.order_id }).await?; // correlation, causation and hops travel along
//!     Ok(())
//! }
//!
//! #[subscribe(batch = 50, max_wait = "10ms", idempotent)]
//! async fn notify(requests: abe_events::Batch<ReviewRequested>) {
//!     assert_eq!(requests[0].order_id, 1);
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<()> {
//!     // A service says `runtime::start().await?`: config.yaml, environment, and all handlers that are linked.
//!     let runtime = Runtime::builder().config(Config::default()).handlers(handlers![review, notify]).start().await?;
//!     runtime.publish(OrderCreated { order_id: 1, user_id: 7, amount: 250.0 }).await?;
//!
//!     // A service says `runtime.stopped().await?`: a signal, then draining.
//!     runtime.settled().await;
//!     runtime.stop().await;
//!     assert_eq!(runtime.monitor().total().succeeded, 2);
//!     Ok(())
//! }
//! ```
//!
//! Delivery is at least once to every subscription that existed at the publish. What a stored event survives is the broker's:
//! nothing beyond the process on `memory://`, a kill at any instant on `sqlite://`, `postgres://` and `nats://`. A handler that takes
//! `Tx` has exactly one committed effect per event, as far as its effects are written through it.
//!
//! # Where to look
//!
//! | | |
//! |---|---|
//! | [`macro@event`], [`macro@data`], [`macro@subscribe`], [`handlers!`], [`link!`] | declaring |
//! | [`runtime`], [`Runtime`], [`RuntimeBuilder`] | starting, publishing, watching, stopping; [dead letters](runtime::DeadLetterDesk) |
//! | [`Context`], [`State`], [`Batch`], [`Outcome`], [`BatchOutcome`], [`handler`] | what a handler takes and returns |
//! | [`Error`], [`ErrorKind`], [`Classify`] | what went wrong, and whether trying again can help |
//! | [`config`], [`policy`] | file, environment, and how a subscription behaves |
//! | [`Message`], [`Id`], [`Headers`], [`Topic`], [`wire`] | an event as it travels, and as bytes |
//! | [`broker`] | the seam for brokers, and the brokers: memory, and by feature SQLite and PostgreSQL |
//! | `Tx`, `Runtime::outbox`, `Runtime::event_log` | with a SQL store, by feature: transactions, outbox, event log |
//! | `testing` | `#[abe_events::test]` and `TestBus`, with the feature of that name |
//! | `conformance` | the suite that holds a broker of your own to the seam's promises, with the feature of that name |
//!
//! The guide is in the repository's `docs/guide`: a first event, delivery, attributes, configuration, errors, testing,
//! shutdown, the wire. `docs/guarantees.md` lists every claim with the test that proves it.
//!
//! # Features
//!
//! | feature | default | what for |
//! |---|---|---|
//! | `macros` | yes | `#[event]`, `#[data]`, `#[subscribe]`, `handlers!` |
//! | `sqlite` | no | the broker and the [store](RuntimeBuilder::store) in a SQLite file |
//! | `postgres` | no | the broker and the store in a PostgreSQL database |
//! | `nats` | no | the broker on NATS JetStream |
//! | `redis` | no | the broker on Redis Streams |
//! | `testing` | no | `#[abe_events::test]` and `TestBus`; for `dev-dependencies` |
//! | `conformance` | no | the conformance suite, for brokers of your own; for `dev-dependencies` |
//! | `registry-inventory` | no | registration by `inventory` instead of `linkme`, for Rust dylibs |
#![doc(test(attr(deny(warnings), allow(unused, unused_crate_dependencies))))]

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod broker;
mod codec;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connect;
mod contract;
#[cfg(doctest)]
mod doctests;
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
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod store;
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

pub use self::codec::{Codec, Json};
pub use self::error::{BoxError, Classify, Error, ErrorKind, Result};
pub use self::event::{Event, EventDescriptor, Incoming, Location, Unreadable};
pub use self::handler::{Batch, BatchOutcome, Context, Outcome, State};
pub use self::message::{Body, Encoded, HEADER_BYTES_MAX, HEADER_COUNT_MAX, Headers, Id, Lineage, Message, PAYLOAD_BYTES_MAX, Payload};
pub use self::publisher::{KEY_BYTES_MAX, Publish, Publishable, Publisher};
pub use self::runtime::{Runtime, RuntimeBuilder};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use self::store::{IntoOutbox, Outbox, OutboxPublish, Tx, TxDatabase};
/// The driver that [`Tx`] and [`Runtime::outbox`] speak, in the version they need.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sqlx;

pub use self::topic::{NAME_BYTES_MAX, Name, SEGMENT_BYTES_MAX, Topic, TopicPattern};
