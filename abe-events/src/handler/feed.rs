//! The seam between a handler's monomorphic loop and everything that does not depend on its types.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use compact_str::CompactString;

use super::meta::LaneContext;
use super::transact::Transact;
use crate::broker::{Delivery, FailureKind};
use crate::error::{Error, Result};
use crate::message::{Id, Message};

/// A handler's loop, built once per runtime and run once per lane.
pub trait Worker: Send + Sync {
    /// Takes deliveries from the feed until it has no more. One box for a lane's life, none per message.
    fn run<'a>(&'a self, feed: &'a mut dyn Feed) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// A worker whose types are forgotten.
pub type BoxWorker = Box<dyn Worker>;

/// What a lane gives to a worker. Implemented by the runtime; a worker calls it, never waits on anything else but the
/// handler's own future.
///
/// A message that is handed out for the first time and simply ends well needs no delivery and no verdict of its own: with
/// [`poll_run`](Feed::poll_run) such messages are [lent](Feed::lent) together and [acked](Feed::acked) by their number.
///
/// The order for a single message: [`poll_next`](Feed::poll_next) → decode, filter → with `idempotent`
/// [`poll_reserve`](Feed::poll_reserve) → the attempt, [`attempt_starts`](Feed::attempt_starts) before its first poll and
/// [`poll_interrupt`](Feed::poll_interrupt) whenever it is pending → what it returned, through
/// [`publish`](Feed::publish) and [`poll_publish`](Feed::poll_publish) → [`done`](Feed::done), exactly once per delivery,
/// in any case.
pub trait Feed: Send {
    /// The lane's fixed surroundings, for extractors.
    fn lane(&self) -> &LaneContext;

    /// Waits for messages: `true` when a run is lent, `false` when [`poll_next`](Feed::poll_next) has the next delivery, or
    /// the end. The checks of `poll_next` are made.
    /// With `by_id` a duplicate is recognised by its id before it is opened; its key is reserved when it is lent.
    fn poll_run(&mut self, by_id: bool, cx: &mut Context<'_>) -> Poll<bool>;

    /// The run, oldest message first.
    fn lent(&self) -> Lent<'_>;

    /// The first messages of the run, whose attempts are counted here, have ended well: handled, or `filtered` of them not wanted.
    fn acked(&mut self, count: usize, filtered: usize);

    /// Takes the first message out of the run, with the key reserved for it, to end it by [`done`](Feed::done).
    fn take_lent(&mut self) -> Option<(Delivery, Option<InboxKey>)>;

    /// The next delivery; `None` when the lane is to end. Hop limit, size limit and header rules are checked already.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>>;

    /// Tells that a batch has its first message, which starts `max_wait`.
    fn batch_begins(&mut self);

    /// The next delivery for a batch that has begun; `None` when the batch is to run with what it has: it is old enough,
    /// or the lane is to end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>>;

    /// Gives back a delivery that came from [`poll_more`](Feed::poll_more) and does not fit the batch; it comes next.
    fn put_back(&mut self, delivery: Delivery);

    /// How many messages a batch holds at most.
    fn batch_max(&self) -> usize;

    /// How many bytes ([`Message::weight`]) a batch holds at most, unless one message alone has more.
    fn batch_bytes_max(&self) -> usize;

    /// Whether duplicates are to be skipped: then, and only then, [`poll_reserve`](Feed::poll_reserve) is called.
    fn idempotent(&self) -> bool;

    /// Reserves a key for this subscription, so that nobody else runs it until [`done`](Feed::done).
    fn poll_reserve(&mut self, key: &InboxKey, cx: &mut Context<'_>) -> Poll<Reservation>;

    /// What the lane does for a handler that works in a transaction; `None` for all others. The same for the lane's life.
    ///
    /// With it the order is another: decode, filter → [`poll_begin`](Transact::poll_begin) → the attempt →
    /// [`poll_commit`](Transact::poll_commit) with what it returned, or [`poll_roll_back`](Transact::poll_roll_back) →
    /// [`done`](Feed::done).
    fn transact(&mut self) -> Option<&mut dyn Transact>;

    /// An attempt is about to be polled for the first time; `messages` are in it.
    fn attempt_starts(&mut self, messages: usize);

    /// Called on every poll of an attempt, before (`true`) and after (`false`) user code runs: for the watchdog and for
    /// publishes made within it.
    fn in_user_code(&mut self, inside: bool);

    /// Called when the attempt is pending: settles what is finished, arms the timeout, and says when the attempt is to be dropped.
    fn poll_interrupt(&mut self, cx: &mut Context<'_>) -> Poll<Interrupt>;

    /// The attempt has ended, however it did.
    fn attempt_ends(&mut self);

    /// Begins to publish what a handler returned, before its message is acked.
    fn publish(&mut self, messages: Vec<Message>);

    /// Goes on with [`publish`](Feed::publish).
    fn poll_publish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// How a delivery ended, with the key reserved for it. Never waits: verdicts are carried out in batches.
    fn done(&mut self, delivery: Delivery, key: Option<InboxKey>, ended: Ended);
}

/// Messages that are handed out for the first time, and what is told of them while user code runs.
#[expect(missing_debug_implementations, reason = "it lends what stands elsewhere")]
#[derive(Clone, Copy)]
pub struct Lent<'a> {
    /// The messages, oldest first.
    pub messages: &'a [Message],
    /// The lane.
    pub lane: &'a LaneContext,
    /// Whom to tell.
    pub beat: &'a dyn Beat,
}

/// What is told from within a stretch of user code that spans several messages.
pub trait Beat {
    /// Another message is about to be opened. What its attempt costs is counted with the run.
    fn next(&self) -> Next;

    /// The attempt begins whose time is taken.
    fn time_starts(&self);

    /// An attempt has ended whose time is taken, or that was pending.
    fn ends(&self);
}

/// What [`Beat::next`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing more is to be started.
    Over,
    /// Go on.
    Plain,
    /// Go on, and say when the attempt starts and ends.
    Timed,
}

/// What an idempotent handler recognises a duplicate by, within its subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum InboxKey {
    /// The event's id.
    Id(Id),
    /// The user's expression.
    Text(CompactString),
}

/// What came of reserving a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// Yours: run it, and say in [`Feed::done`] how it ended.
    Reserved,
    /// Applied before: a duplicate.
    Applied,
    /// Someone else is running it: end with [`Ended::Busy`], and the message comes again when that is decided.
    Busy,
}

/// Why an attempt is dropped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// It took longer than its timeout.
    Timeout,
    /// The runtime is out of grace, or the lease was lost: not the handler's fault.
    Cancelled,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Handled.
    Success,
    /// The filter did not want it: acked and counted.
    Filtered,
    /// Applied before: acked and counted.
    Duplicate,
    /// A duplicate is running elsewhere: comes again, no attempt counted.
    Busy,
    /// Dropped by an [`Interrupt::Cancelled`], or never started: released, no attempt counted.
    Cancelled,
    /// A failed attempt.
    Failed {
        /// What sort; [`FailureKind::is_final`] decides between retry and dead letter.
        kind: FailureKind,
        /// What was said about it.
        text: String,
        /// The handler's own wish for the delay, by `Outcome::retry_after`.
        after: Option<Duration>,
    },
}

impl Ended {
    /// A failed attempt without a wish for the delay.
    pub fn failed(kind: FailureKind, text: impl ToString) -> Self {
        Self::Failed { kind, text: text.to_string(), after: None }
    }
}
