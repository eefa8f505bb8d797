//! The seam: what a broker must do so that everything above it can promise to lose nothing.
//!
//! A [`Broker`] stores messages for subscriptions, a [`Consumer`] hands them out and takes verdicts back, [`DeadLetters`]
//! keeps what failed for good. Batches cross the seam, so that one call is shared by many messages, and an [`Answer`]
//! that is ready costs no allocation. The traits have no default methods, because a wrapper that forgets one must not compile;
//! the exceptions are [`Broker::route`] and [`Consumer::local`], which a wrapper must not pass on: it would be passed by.

mod answer;
mod capabilities;
mod dead_letter;
mod delivery;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "nats", feature = "redis"))]
mod failures;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "nats", feature = "redis"))]
mod fate;
mod local;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod outgoing;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "nats", feature = "redis"))]
mod seat;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod stored;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::answer::{Answer, Keeper, Kept};
pub use self::capabilities::{Capabilities, Durability, StartPosition};
pub use self::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetters};
pub use self::delivery::{Delivery, FAILURE_TEXT_BYTES_MAX, FAILURES_MAX, Failure, FailureKind, Settled, Settlement, Token, Verdict};
pub use self::local::{Local, Route, Run};
pub use self::outgoing::{ConsumerId, Messages, Origin, Outgoing, PublishFailure, Published};
use crate::error::Result;
use crate::policy::WhenFull;
use crate::topic::{Name, Topic, TopicPattern};

/// Carries messages from publishers to subscriptions.
///
/// # Contract
///
/// 1. `publish` answers `Ok` only when every subscription that matched at that time holds the message, as durably as
///    [`Capabilities::durability`] says. An error is [`NotStored`](crate::ErrorKind::NotStored) or
///    [`Full`](crate::ErrorKind::Full) only if certainly nothing is stored beyond [`PublishFailure::stored`] messages;
///    everything ambiguous is [`Unknown`](crate::ErrorKind::Unknown).
/// 2. A subscription exists from the moment `subscribe` answered; it survives its consumers, and what was published
///    meanwhile waits for the next one.
/// 3. Two subscriptions never share a message's fate: each gets its own delivery, attempts and verdict.
/// 4. Messages of one publisher reach a subscription's first deliveries in publish order.
/// 5. With [`SubscriptionSpec::ordered`] no message is handed out while an earlier one of its key is unsettled or waits for a retry.
/// 6. The attempt count is stored before a delivery is handed out, and starts at 1.
/// 7. A settlement acts on exactly the delivery it names, by id and token; a stale token changes nothing and is reported
///    in [`Settled::lost`].
/// 8. [`Verdict::Retry`] is never delivered early, and survives what the broker survives.
/// 9. [`Verdict::DeadLetter`] removes the message only after the dead letter is stored; if it cannot be stored, the message
///    stays with the subscription and the settlement is reported in [`Settled::failed`].
/// 10. [`Verdict::Release`] gives a delivery back as if it had not been handed out: its attempt is not counted.
/// 11. Where [`Capabilities::bounded_queues`] says so, every queue is bounded in messages and bytes; when full, a publisher
///     waits, fails, or this subscription sheds, as [`SubscriptionSpec::when_full`] says. Elsewhere the store is the bound,
///     and a full one refuses with [`NotStored`](crate::ErrorKind::NotStored). Nothing is dropped without being counted.
/// 12. After `close` every call fails with [`Closed`](crate::ErrorKind::Closed); closing again succeeds.
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// What this broker can do, as data; decisions above the seam use nothing else.
    fn capabilities(&self) -> &Capabilities;

    /// Makes sure a subscription exists and opens a consumer for it. Several consumers of one subscription compete.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for what the capabilities exclude.
    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>>;

    /// Stores messages for every subscription that matches their topics.
    ///
    /// # Cancel safety
    ///
    /// A publish whose answer is dropped while waiting has an unknown outcome: publish again with the same ids.
    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>>;

    /// The way for single messages of a topic, kept by publishers, if the broker has one that is shorter than
    /// [`publish`](Broker::publish).
    fn route(&self, topic: &Topic) -> Option<Box<dyn Route>> {
        let _ = topic;
        None
    }

    /// What failed for good.
    fn dead_letters(&self) -> &dyn DeadLetters;

    /// Ends all consumers, flushes what is buffered and refuses further calls.
    fn close(&self) -> Answer<'_, Result<()>>;
}

/// Hands out the messages of one subscription and takes their verdicts.
pub trait Consumer: fmt::Debug + Send + Sync {
    /// Tells this consumer from all others of the process.
    fn id(&self) -> ConsumerId;

    /// Waits until something can be handed to a lane, and hands over at most `max` deliveries, appended to `into`.
    ///
    /// `into` comes back, so that its memory is used again. `lane` counts from 0 below [`SubscriptionSpec::lanes`].
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) after `close`; any other error is passing, and the caller asks again later.
    ///
    /// # Cancel safety
    ///
    /// Dropping an answer that is still to come loses nothing: what it had taken is released. An answer that is at hand
    /// holds deliveries, and they are the caller's to settle.
    fn receive(&self, lane: u32, max: usize, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>>;

    /// Carries out verdicts, in order. The emptied vector comes back in [`Settled`].
    ///
    /// # Cancel safety
    ///
    /// A verdict whose answer is dropped may or may not have been carried out; the delivery then ends with its lease.
    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled>;

    /// The shorter way for a lane of the same process, if this consumer has one.
    fn local(&self) -> Option<&dyn Local> {
        None
    }

    /// Renews the leases of deliveries, and answers the tokens whose lease is lost.
    fn renew<'a>(&'a self, tokens: &'a [Token]) -> Answer<'a, Result<Vec<Token>>>;

    /// How much there is to do, as far as it can be told without asking a server.
    fn depth(&self) -> Depth;

    /// Hands out nothing more; the subscription stays. What is handed out and unsettled goes to the next consumer, its
    /// attempt counted: the handler may have run. Who knows that it has not, settles with [`Verdict::Release`] before.
    fn close(&self) -> Answer<'_, Result<()>>;
}

/// A subscription: a handler's own queue, named by group and name.
#[derive(Debug, Clone)]
pub struct SubscriptionSpec {
    /// The service it belongs to; services that share a group and a name share the work.
    pub group: Name,
    /// The handler's name.
    pub name: Name,
    /// The topics it takes.
    pub topics: Vec<TopicPattern>,
    /// Where a new subscription starts.
    pub start: StartPosition,
    /// How many lanes will ask for deliveries.
    pub lanes: u32,
    /// How many deliveries may be handed out and unsettled.
    pub unsettled_max: u32,
    /// How long a delivery may stay unsettled without renewal before it is handed out again. `None` only where
    /// [`Capabilities::leases_optional`] says that a consumer cannot die alone: every delivery must then be settled.
    pub lease: Option<Duration>,
    /// Whether messages of a key are handed out one after another.
    pub ordered: bool,
    /// How many messages may wait or be unsettled.
    pub buffer: u32,
    /// How many bytes may wait or be unsettled.
    pub buffer_bytes: usize,
    /// What a full queue does to a publisher.
    pub when_full: WhenFull,
}

impl SubscriptionSpec {
    /// A subscription with the defaults of [`Policy`](crate::policy::Policy): one lane, 64 messages, 64 MiB, publishers wait,
    /// a lease of 30 s.
    pub fn new(group: Name, name: Name, topics: Vec<TopicPattern>) -> Self {
        Self {
            group,
            name,
            topics,
            start: StartPosition::Latest,
            lanes: 1,
            unsettled_max: 64,
            lease: Some(Duration::from_secs(30)),
            ordered: false,
            buffer: 64,
            buffer_bytes: 64 * 1024 * 1024,
            when_full: WhenFull::Wait,
        }
    }
}

/// How much a subscription has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Waiting to be handed out.
    pub ready: u64,
    /// Handed out and unsettled.
    pub unsettled: u64,
    /// Waiting for their time: retries and delayed publishes.
    pub delayed: u64,
    /// Not stored for this subscription because it was full, since it exists.
    pub shed: u64,
    /// Approximate bytes of ready and unsettled messages.
    pub bytes: u64,
    /// Stored for this subscription, replays included, since it exists in this process.
    pub accepted: u64,
}

impl Depth {
    /// All that has not ended yet.
    pub fn pending(&self) -> u64 {
        self.ready + self.unsettled + self.delayed
    }
}
