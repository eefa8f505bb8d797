//! From a function to a worker: the part that knows the handler's types, kept as small as it can be.
//!
//! For each handler the compiler instantiates one [`Slot`]: open a message, start a call, poll it, drop it. The loops
//! around it ([`single`](super::single), [`batched`](super::batched)) see it as `dyn Calls` and exist once.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use compact_str::CompactString;

use super::attempt::{DROPPING, HANDLER, OPENING};
use super::feed::{BoxWorker, Feed, Lent, Next, Worker};
use super::meta::{LaneContext, Meta};
use super::outcome::{IntoOutcome, Outcome, Reply};
use super::payload::{Form, Own, Receive};
use super::{batched, single, transact};
use crate::broker::Delivery;
use crate::error::{Error, Result};
use crate::event::{Incoming, Unreadable};
use crate::lane_scope;

/// A handler's typed part, as the loops see it. Everything may run user code, and may panic.
pub(super) trait Calls: Send {
    /// Decodes and filters a message, and keeps it for the next call; `false` when a filter does not want it.
    fn open(&mut self, meta: Meta<'_>) -> Result<bool, Unreadable>;

    /// Whether there is neither a filter nor an expression for the idempotency key.
    fn takes_all_by_id(&self) -> bool;

    /// The user's idempotency key of the message opened last, if there is an expression for it.
    fn key(&self) -> Option<CompactString>;

    /// Drops the message opened last.
    fn forget_last(&mut self);

    /// Drops one of the messages that are open, by its place among them.
    fn forget(&mut self, index: usize);

    /// Starts a call with what was opened.
    fn start(&mut self, deliveries: &[Delivery], lane: &LaneContext) -> Result<()>;

    /// Calls the handler with one message of a run after another, until one is pending or does not simply end well. How far
    /// it came stands in `progress`, whatever panics.
    fn run(&mut self, lent: Lent<'_>, progress: &mut Progress, reply: &mut Reply, cx: &mut Context<'_>) -> Poll<Stop>;

    /// Goes on with the call, and says in the end what it came to.
    fn poll(&mut self, cx: &mut Context<'_>, lane: &LaneContext, reply: &mut Reply) -> Poll<()>;

    /// Drops the call, wherever it stands, and what is still open.
    fn clear(&mut self);
}

/// How far a run has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The message that is worked on; all before it have ended well.
    pub(super) at: usize,
    /// How many of those the filter did not want.
    pub(super) filtered: usize,
    pub(super) stage: Stage,
    /// Whether the lane keeps the message's time, and is to be told of its end.
    pub(super) watched: bool,
}

/// What is being done with a message of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Opening,
    Running,
    Dropping,
}

impl Stage {
    /// The same in words, for what panicked there.
    pub(super) fn place(self) -> &'static str {
        match self {
            Self::Opening => OPENING,
            Self::Running => HANDLER,
            Self::Dropping => DROPPING,
        }
    }
}

/// Why a run does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// All its messages have ended well, or nothing more is to be started.
    End,
    /// The reply says what the message came to.
    Replied,
    /// The message cannot be read.
    Unreadable(Unreadable),
}

/// A handler before its function is known: `P` its message parameter, `H` what a call holds, `M` what the function's glue
/// gets, `I` what filters see.
///
/// Without bounds of its own: a parameter that is no message is then reported where it stands, and not at each step.
pub struct Build<P, H, M, I> {
    take: fn(H) -> M,
    filter: Option<fn(&I) -> bool>,
    filter_meta: Option<fn(&Meta<'_>) -> bool>,
    key: Option<fn(&I) -> CompactString>,
    parameter: PhantomData<fn() -> P>,
}

/// Begins a handler of a message parameter.
pub fn worker<P: Receive>() -> Build<P, P::Held, P::Held, P::Item> {
    Build { take: std::convert::identity, filter: None, filter_meta: None, key: None, parameter: PhantomData }
}

impl<P, H, M, I> Build<P, H, M, I> {
    /// The function takes its message by value.
    pub fn by_value(self) -> Build<P, H, P, I>
    where
        P: Own + Receive<Held = H>,
    {
        Build { take: P::own, filter: self.filter, filter_meta: self.filter_meta, key: self.key, parameter: PhantomData }
    }

    /// Which events the handler wants.
    #[must_use]
    pub fn filter(mut self, filter: fn(&I) -> bool) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Which messages the handler wants, decided before they are decoded.
    #[must_use]
    pub fn filter_meta(mut self, filter: fn(&Meta<'_>) -> bool) -> Self {
        self.filter_meta = Some(filter);
        self
    }

    /// What a duplicate is recognised by.
    #[must_use]
    pub fn idempotency_key(mut self, key: fn(&I) -> CompactString) -> Self {
        self.key = Some(key);
        self
    }

    /// The worker of a function's glue.
    pub fn run<C, R>(self, call: C) -> BoxWorker
    where
        P: Receive<Held = H, Item = I>,
        M: Send + 'static,
        C: Fn(M, Meta<'_>) -> Result<R> + Send + Sync + 'static,
        R: Future + Send + 'static,
        R::Output: IntoOutcome<P::Form>,
    {
        Box::new(Bound { build: self, call })
    }
}

impl<P, H, M, I> fmt::Debug for Build<P, H, M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Build")
    }
}

struct Bound<P: Receive, M, C> {
    build: Build<P, P::Held, M, P::Item>,
    call: C,
}

impl<P, M, C, R> Worker for Bound<P, M, C>
where
    P: Receive,
    M: Send + 'static,
    C: Fn(M, Meta<'_>) -> Result<R> + Send + Sync + 'static,
    R: Future + Send + 'static,
    R::Output: IntoOutcome<P::Form>,
{
    fn run<'a>(&'a self, feed: &'a mut dyn Feed) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let calls = Box::new(Slot { bound: self, opened: Vec::new(), future: Box::pin(None), form: PhantomData });
        match (P::Form::BATCH, feed.transact().is_some()) {
            (false, false) => Box::pin(single::run(calls, feed)),
            (false, true) => Box::pin(transact::single(calls, feed)),
            (true, false) => Box::pin(batched::run(calls, feed)),
            (true, true) => Box::pin(batched::run_in_transactions(calls, feed)),
        }
    }
}

/// A lane's place for one call. The future lives in a box made once, and is replaced there for each call.
struct Slot<'a, P: Receive, M, C, R> {
    bound: &'a Bound<P, M, C>,
    opened: Vec<Arc<P::Item>>,
    future: Pin<Box<Option<R>>>,
    form: PhantomData<P::Form>,
}

impl<P: Receive, M, C> Bound<P, M, C> {
    /// Decodes and filters a message; `None` when a filter does not want it.
    #[inline(always)]
    fn open(&self, meta: Meta<'_>) -> Result<Option<Arc<P::Item>>, Unreadable> {
        if self.build.filter_meta.is_some_and(|wanted| !wanted(&meta)) {
            return Ok(None);
        }
        let item = P::Item::open(meta.message)?;
        Ok(if self.build.filter.is_some_and(|wanted| !wanted(&item)) { None } else { Some(item) })
    }

    /// The same as what a call of one message owns.
    #[inline(always)]
    fn held(&self, meta: Meta<'_>) -> Result<Option<P::Held>, Unreadable> {
        Ok(self.open(meta)?.and_then(P::hold_one))
    }
}

/// Cannot happen: the loops start a call only with what they opened.
#[cold]
fn nothing() -> Error {
    Error::msg("a call was started without a message")
}

impl<P, M, C, R> Calls for Slot<'_, P, M, C, R>
where
    P: Receive,
    M: Send + 'static,
    C: Fn(M, Meta<'_>) -> Result<R> + Send + Sync + 'static,
    R: Future + Send + 'static,
    R::Output: IntoOutcome<P::Form>,
{
    fn open(&mut self, meta: Meta<'_>) -> Result<bool, Unreadable> {
        let item = self.bound.open(meta)?;
        let wanted = item.is_some();
        self.opened.extend(item);
        Ok(wanted)
    }

    fn takes_all_by_id(&self) -> bool {
        let build = &self.bound.build;
        build.filter.is_none() && build.filter_meta.is_none() && build.key.is_none()
    }

    fn key(&self) -> Option<CompactString> {
        Some(self.bound.build.key?(self.opened.last()?))
    }

    fn forget_last(&mut self) {
        self.opened.pop();
    }

    fn forget(&mut self, index: usize) {
        if index < self.opened.len() {
            self.opened.remove(index);
        }
    }

    fn start(&mut self, deliveries: &[Delivery], lane: &LaneContext) -> Result<()> {
        let first = deliveries.first().ok_or_else(nothing)?;
        let held = P::hold(&mut self.opened, deliveries).ok_or_else(nothing)?;
        let meta = Meta { message: &first.message, attempt: first.attempt, lane };
        let future = (self.bound.call)((self.bound.build.take)(held), meta)?;
        self.future.as_mut().set(Some(future));
        Ok(())
    }

    fn run(&mut self, lent: Lent<'_>, progress: &mut Progress, reply: &mut Reply, cx: &mut Context<'_>) -> Poll<Stop> {
        while let Some(message) = lent.messages.get(progress.at) {
            if progress.stage == Stage::Opening {
                let beat = lent.beat.next();
                if beat == Next::Over {
                    break;
                }
                let meta = Meta { message, attempt: 1, lane: lent.lane };
                let held = match self.bound.held(meta) {
                    Ok(Some(held)) => held,
                    Ok(None) => {
                        progress.at += 1;
                        progress.filtered += 1;
                        continue;
                    }
                    Err(unreadable) => return Poll::Ready(Stop::Unreadable(unreadable)),
                };
                progress.stage = Stage::Running;
                lane_scope::runs_for(message);
                progress.watched = beat == Next::Timed;
                if progress.watched {
                    lent.beat.time_starts();
                }
                match (self.bound.call)((self.bound.build.take)(held), meta) {
                    Ok(future) => self.future.as_mut().set(Some(future)),
                    Err(error) => {
                        reply.fail(Outcome::of_error::<Error>(&error));
                        return Poll::Ready(Stop::Replied);
                    }
                }
            } else {
                // It was pending, and the scope was left.
                lane_scope::runs_for(message);
            }
            if let Some(future) = self.future.as_mut().as_pin_mut() {
                ready!(future.poll(cx)).settle(reply, &lent.lane.publisher);
            }
            progress.stage = Stage::Dropping;
            self.future.as_mut().set(None);
            if progress.watched {
                lent.beat.ends();
            }
            if !reply.is_plain() {
                return Poll::Ready(Stop::Replied);
            }
            progress.at += 1;
            progress.stage = Stage::Opening;
        }
        Poll::Ready(Stop::End)
    }

    fn poll(&mut self, cx: &mut Context<'_>, lane: &LaneContext, reply: &mut Reply) -> Poll<()> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        future.poll(cx).map(|outcome| outcome.settle(reply, &lane.publisher))
    }

    fn clear(&mut self) {
        self.future.as_mut().set(None);
        self.opened.clear();
    }
}
