//! What a worker calls: [`Feed`] for a lane.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::fetch::Fetch;
use super::hand_on::HandOn;
use super::renewal::Renewal;
use super::settle::Settling;
use super::suspect::{self, Pass};
use super::transaction::Transacting;
use super::verdict::Verdicts;
use crate::broker::{Delivery, FailureKind, Local, Messages, Origin, Run};
use crate::error::Error;
use crate::handler::{Beat, Ended, Feed, InboxKey, Interrupt, LaneContext, Lent, Next, Reservation, Transact};
use crate::inbox::MemoryInbox;
use crate::lane_scope::Scope;
use crate::message::{Id, Message, Payload};
use crate::mutant;
use crate::runtime::monitor::LaneStats;
use crate::runtime::subscription::Subscription;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long a lane may work on a run before it gives way to what else its thread has to do.
const RUN_TIME_MAX: Duration = Duration::from_micros(100);

/// A lane's side of the seam.
pub(super) struct LaneFeed<'a> {
    pub(super) subscription: &'a Subscription,
    pub(super) stats: &'a LaneStats,
    context: LaneContext,
    pulse: &'a AtomicU32,
    /// Received and not yet started, oldest first.
    pub(super) waiting: VecDeque<Delivery>,
    /// Where the subscription may go the shorter way.
    pub(super) local: Option<&'a dyn Local>,
    /// The same, of what is handed out for the first time.
    pub(super) run: Run,
    /// How many messages of the run, from the first, may reach the handler.
    pub(super) lent: usize,
    /// When the run was lent.
    lent_at: Option<Instant>,
    pub(super) fetch: Fetch<'a>,
    /// Where other lanes could take what waits here.
    pub(super) hand_on: Option<HandOn>,
    pub(super) settling: Settling<'a>,
    verdicts: Verdicts<'a>,
    /// Where a delivery has a lease.
    pub(super) renewal: Option<Renewal<'a>>,
    /// Where the handler works in a transaction.
    pub(super) transacting: Option<Box<Transacting<'a>>>,
    /// Ready when the runtime drains, when nothing more is to be started, and when its grace time is over.
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    last_start: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// One timer for the attempt's timeout; armed only for an attempt that was pending.
    timer: Pin<Box<Sleep>>,
    armed: Cell<bool>,
    /// When the batch that is being filled is old enough to run.
    batch_timer: Pin<Box<Sleep>>,
    /// When the running attempt began, if its time is taken.
    began: Cell<Option<Instant>>,
    in_attempt: Cell<u64>,
    /// How many messages come before the one of the run whose time is taken, and which run it is.
    until_timed: Cell<usize>,
    runs: usize,
    reserving: Option<Boxed<'a, Result<Reservation, Error>>>,
    publishing: Option<Boxed<'a, Result<(), Error>>>,
    /// Held while a suspect of this lane runs, or is about to.
    pub(super) pass: Option<Pass>,
    outer_scope: Scope,
}

impl<'a> LaneFeed<'a> {
    pub(super) fn new(subscription: &'a Subscription, lane: u32) -> Self {
        let index = lane as usize;
        let stats: &LaneStats = &subscription.stats[index];
        let origin = Origin { consumer: subscription.consumer.id(), lane };
        let local = local(subscription);
        let timer = || Box::pin(tokio::time::sleep(Duration::ZERO));
        let transacting = Transacting::of(subscription);
        Self {
            subscription,
            stats,
            context: LaneContext {
                subscription: subscription.name.clone(),
                publisher: subscription.publisher.from_lane(origin),
                origin,
                transaction: transacting.as_ref().map(|lane| lane.slot()),
            },
            pulse: &subscription.pulses[index],
            waiting: VecDeque::new(),
            local,
            run: Run::new(),
            lent: 0,
            lent_at: None,
            fetch: Fetch::new(&*subscription.consumer, local, lane, &subscription.policy),
            hand_on: (subscription.policy.concurrency > 1).then(HandOn::new),
            settling: Settling::new(subscription, stats),
            verdicts: Verdicts::new(subscription, stats),
            renewal: subscription.lease.map(|lease| Renewal::new(&*subscription.consumer, lease)),
            transacting,
            draining: Box::pin(subscription.shutdown.draining.clone().cancelled_owned()),
            last_start: Box::pin(subscription.shutdown.last_start()),
            cancelled: Box::pin(subscription.shutdown.cancel.clone().cancelled_owned()),
            timer: timer(),
            armed: Cell::new(false),
            batch_timer: timer(),
            began: Cell::new(None),
            in_attempt: Cell::new(0),
            until_timed: Cell::new(0),
            runs: 0,
            reserving: None,
            publishing: None,
            pass: None,
            outer_scope: Scope::default(),
        }
    }

    /// Forgets a half-done step of a worker that is gone.
    pub(super) fn reset(&mut self) {
        self.attempt_ends();
        self.reserving = None;
        self.publishing = None;
        if let Some(lane) = &mut self.transacting {
            lane.reset();
        }
        self.pass = None;
    }

    /// Releases what was not started and carries out what is left to settle.
    pub(super) async fn finish(&mut self) {
        self.fetch.cancel();
        self.renewal = None;
        while let Some((delivery, key)) = self.waiting.pop_front().map(|delivery| (delivery, None)).or_else(|| self.take_lent()) {
            let ended = if mutant::is("attempt-for-unstarted") { Ended::failed(FailureKind::Error, "shutdown") } else { Ended::Cancelled };
            self.done(delivery, key, ended);
        }
        std::future::poll_fn(|cx| self.settling.poll_flush(cx)).await;
    }

    fn is_over(&self) -> bool {
        self.subscription.shutdown.is_last_start()
    }

    /// Takes from what is waiting; what must not reach the handler ends here.
    fn next_waiting(&mut self) -> Option<Delivery> {
        // Looked at where it stands, and moved once it is known where to.
        while let Some(delivery) = self.waiting.front() {
            if let Some(renewal) = &mut self.renewal {
                let token = delivery.token;
                if renewal.is_lost(token) {
                    // Somebody else has it by now, and settling it would change nothing.
                    self.stats.leases_lost.add(1);
                    renewal.let_go(token);
                    self.waiting.pop_front();
                    continue;
                }
                renewal.hold(token);
            }
            let Some(ended) = self.refusal(&delivery.message, Some(delivery)) else { return self.waiting.pop_front() };
            if let Some(delivery) = self.waiting.pop_front() {
                self.done(delivery, None, ended);
            }
        }
        None
    }

    /// Why a message must not reach the handler. Whoever observes has no runs.
    #[inline]
    fn refusal(&self, message: &Message, delivery: Option<&Delivery>) -> Option<Ended> {
        if delivery.is_some_and(|delivery| suspect::is_given_up(delivery, self.subscription.policy.retry.attempts)) {
            let text = "the attempts before this one ended without a word: the process died, or its lease was lost";
            return Some(Ended::failed(FailureKind::Crash, text));
        }
        if message.hops() > self.subscription.hops_max && !(mutant::is("hops-unlimited") && message.hops() < 100) {
            return Some(too_deep(message, self.subscription.hops_max));
        }
        if let Payload::Encoded(encoded) = message.payload()
            && encoded.bytes().len() > self.subscription.payload_bytes_max
        {
            return Some(too_large(encoded.bytes().len(), self.subscription.payload_bytes_max));
        }
        if let Some(observer) = &self.subscription.observer
            && let Some(ended) = delivery.and_then(|delivery| observer.before(self.subscription.name(), delivery))
        {
            return Some(ended);
        }
        if !self.subscription.handler.spec.headers.is_empty() && !self.subscription.wants(message) {
            return Some(Ended::Filtered);
        }
        None
    }

    /// Waits for deliveries: `true` when there are some, `false` when the lane is to end.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.fetch.round_begins();
        if let Some(renewal) = &mut self.renewal {
            renewal.poll_underway(cx);
        }
        // What is finished must not wait for what is still to come; that may be on its way at the same time.
        if self.settling.poll_flush(cx).is_pending() {
            if self.settling.only_acks_underway() && self.waiting.is_empty() && !self.is_over() {
                self.fetch.begin();
            }
            self.fetch.poll_underway(cx, &mut self.waiting);
            return Poll::Pending;
        }
        if self.is_over() {
            return Poll::Ready(false);
        }
        if !self.waiting.is_empty() {
            return Poll::Ready(true);
        }
        // A lane that always finds something gives way now and then, or it would keep its thread from timers and signals.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        if let Poll::Ready(received) = self.fetch.poll(cx, &mut self.waiting, &mut self.run) {
            turn.made_progress();
            return Poll::Ready(received);
        }
        self.last_start.as_mut().poll(cx).map(|()| false)
    }
}

impl Feed for LaneFeed<'_> {
    fn lane(&self) -> &LaneContext {
        &self.context
    }

    fn poll_run(&mut self, by_id: bool, cx: &mut Context<'_>) -> Poll<bool> {
        if self.local.is_none() || (self.subscription.inbox.is_some() && !by_id) {
            return Poll::Ready(false);
        }
        if self.lent_at.take().is_some_and(|at| at.elapsed() > RUN_TIME_MAX) {
            // To the end of the queue, from where an idle worker takes it: handlers that compute and the publisher then run
            // side by side. A quick lane stays where its publisher is, and so does what the publisher has just written.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if self.is_over() || !self.waiting.is_empty() {
                return Poll::Ready(false);
            }
            if self.lent > 0 {
                self.begin_run();
                return Poll::Ready(true);
            }
            if !self.run.is_empty() {
                // What this lane has applied must be in the record before it asks again.
                ready!(self.settling.poll_flush_if_unrecorded(cx));
                self.lent = self.reserved_run();
                if self.lent == 0
                    && let Some((delivery, _)) = self.take_lent()
                {
                    self.waiting.push_back(delivery);
                }
            } else if !ready!(self.poll_fetch(cx)) {
                return Poll::Ready(false);
            }
        }
    }

    fn lent(&self) -> Lent<'_> {
        Lent { messages: self.run.as_slice().get(..self.lent).unwrap_or_default(), lane: &self.context, beat: self }
    }

    fn acked(&mut self, count: usize, filtered: usize) {
        let Some(local) = self.local.filter(|_| count > 0) else { return };
        let (succeeded, filtered) = (count.saturating_sub(filtered) as u64, filtered as u64);
        // Counted first, so that whoever sees nothing pending sees it counted.
        self.stats.succeeded.add(succeeded);
        // One is counted as long as the run is worked on.
        self.stats.started.add(succeeded);
        self.stats.ended.add(succeeded);
        self.stats.filtered.add(if mutant::is("filtered-uncounted") { 0 } else { filtered });
        let messages = self.run.as_slice().get(..count).unwrap_or_default();
        if let Some(inbox) = self.inbox() {
            inbox.applied_run(messages);
        }
        if let Err(error) = local.ack(self.fetch.lane(), messages) {
            self.stats.succeeded.take_back(succeeded);
            self.stats.filtered.take_back(filtered);
            self.stats.settle_failures.add(count as u64);
            let ids: Vec<&Id> = messages.iter().map(Message::id).collect();
            tracing::error!(handler = self.subscription.name(), ?ids, %error, "handled messages were not acked");
        }
        self.lent = self.lent.saturating_sub(count);
        self.run.advance(count);
    }

    fn take_lent(&mut self) -> Option<(Delivery, Option<InboxKey>)> {
        let message = self.run.pop()?;
        let key = (self.lent > 0 && self.subscription.inbox.is_some()).then(|| InboxKey::Id(message.id().clone()));
        self.lent = self.lent.saturating_sub(1);
        Some((self.local?.delivery(self.fetch.lane(), message), key))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if self.is_over() {
                // What was not started goes back and costs no attempt.
                return Poll::Ready(None);
            }
            ready!(self.poll_isolate(cx));
            if let Some(delivery) = self.next_waiting() {
                if self.settling.is_full() {
                    // Verdicts are carried out while there is more to do; if that takes time, so be it afterwards.
                    let _ = self.settling.poll_flush(cx);
                }
                return Poll::Ready(Some(delivery));
            }
            if let Some((delivery, _)) = self.take_lent() {
                // A run came, and its messages are asked for one by one.
                self.waiting.push_back(delivery);
            } else if !ready!(self.poll_fetch(cx)) {
                return Poll::Ready(None);
            }
        }
    }

    fn batch_begins(&mut self) {
        self.batch_timer.as_mut().reset(tokio::time::Instant::now() + self.subscription.policy.max_wait);
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if self.is_over() {
                return Poll::Ready(None);
            }
            if let Some(delivery) = self.next_waiting() {
                return Poll::Ready(Some(delivery));
            }
            match self.poll_fetch(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                // Nothing more at hand: a runtime that drains does not wait for a batch to fill.
                Poll::Pending if self.subscription.shutdown.draining.is_cancelled() => return Poll::Ready(None),
                Poll::Pending if self.draining.as_mut().poll(cx).is_ready() => return Poll::Ready(None),
                Poll::Pending if self.poll_renewal(cx).is_ready() => return Poll::Ready(None),
                Poll::Pending => return self.batch_timer.as_mut().poll(cx).map(|()| None),
            }
        }
    }

    fn put_back(&mut self, delivery: Delivery) {
        if let Some(renewal) = &mut self.renewal {
            renewal.let_go(delivery.token);
        }
        self.waiting.push_front(delivery);
    }

    fn batch_max(&self) -> usize {
        self.subscription.policy.batch as usize
    }

    fn batch_bytes_max(&self) -> usize {
        self.subscription.policy.batch_bytes
    }

    fn idempotent(&self) -> bool {
        self.subscription.inbox.is_some()
    }

    fn poll_reserve(&mut self, key: &InboxKey, cx: &mut Context<'_>) -> Poll<Reservation> {
        let Some(inbox) = &self.subscription.inbox else { return Poll::Ready(Reservation::Reserved) };
        if mutant::is("no-reservation") {
            return Poll::Ready(Reservation::Reserved);
        }
        if self.reserving.is_none() {
            // What this lane has applied must be in the record before it asks again.
            ready!(self.settling.poll_flush_if_unrecorded(cx));
            // The key is cloned only for an answer that is still to come.
            match inbox.reserve(key).at_hand() {
                Ok(reserved) => return Poll::Ready(self.reserved(reserved)),
                Err(_) => {
                    let key = key.clone();
                    self.reserving = Some(Box::pin(async move { inbox.reserve(&key).await }));
                }
            }
        }
        let Some(reserving) = &mut self.reserving else { return Poll::Ready(Reservation::Busy) };
        let reserved = ready!(reserving.as_mut().poll(cx));
        self.reserving = None;
        Poll::Ready(self.reserved(reserved))
    }

    fn transact(&mut self) -> Option<&mut dyn Transact> {
        if self.transacting.is_some() { Some(self) } else { None }
    }

    fn attempt_starts(&mut self, messages: usize) {
        self.in_attempt.set(messages as u64);
        self.began.set(self.stats.samples().then(Instant::now));
        self.stats.started.add(messages as u64);
        if messages > 1 {
            self.stats.batches.add(1);
        }
    }

    fn in_user_code(&mut self, inside: bool) {
        // Odd while user code runs; written here alone, so that a plain store will do.
        self.pulse.store(self.pulse.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if inside {
            self.outer_scope = Scope::of(self.context.origin).enter();
        } else {
            std::mem::take(&mut self.outer_scope).enter();
        }
    }

    fn poll_interrupt(&mut self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        // First, for it may bring what must not wait for this attempt either.
        self.fetch.poll_underway(cx, &mut self.waiting);
        self.poll_hand_on(cx);
        // Finished neighbours are not held up by this attempt; if their verdicts take time, they are polled along.
        let _ = self.settling.poll_flush(cx);
        if self.cancelled.as_mut().poll(cx).is_ready() {
            self.subscription.cut.store(true, Ordering::Release);
            return Poll::Ready(Interrupt::Cancelled);
        }
        if self.poll_renewal(cx).is_ready() {
            tracing::warn!(handler = self.subscription.name(), "the lease was lost while the handler ran; its attempt is dropped");
            return Poll::Ready(Interrupt::Cancelled);
        }
        let Some(timeout) = self.subscription.policy.timeout.map(|timeout| if mutant::is("late-timeout") { timeout * 10 } else { timeout })
        else {
            return Poll::Pending;
        };
        if !self.armed.replace(true) {
            self.timer.as_mut().reset(tokio::time::Instant::now() + timeout);
        }
        self.timer.as_mut().poll(cx).map(|()| Interrupt::Timeout)
    }

    fn attempt_ends(&mut self) {
        self.stats.ended.add(self.in_attempt.take());
        if let Some(hand_on) = &mut self.hand_on {
            hand_on.attempt_ends();
        }
        self.ends();
    }

    fn publish(&mut self, messages: Vec<Message>) {
        self.stats.publishing.add(1);
        let publisher = self.context.publisher.clone();
        self.publishing = Some(Box::pin(async move { publisher.send_delayed(Messages::Many(messages), Duration::ZERO).await }));
    }

    fn poll_publish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(publishing) = &mut self.publishing else { return Poll::Ready(Ok(())) };
        let published = match publishing.as_mut().poll(cx) {
            Poll::Ready(published) => published,
            // The handler has done its work: only the end of the grace time stops its events, and then it runs again.
            Poll::Pending => match self.cancelled.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.subscription.cut.store(true, Ordering::Release);
                    Err(Error::new(crate::ErrorKind::Closed, "the runtime stopped while the returned events were being published"))
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        self.publishing = None;
        self.stats.published.add(1);
        Poll::Ready(published)
    }

    fn done(&mut self, delivery: Delivery, key: Option<InboxKey>, ended: Ended) {
        let ended = match &self.subscription.observer {
            Some(observer) => observer.after(self.subscription.name(), &delivery, ended),
            None => ended,
        };
        if let Some(key) = key {
            let applied = matches!(ended, Ended::Success) || mutant::is("mark-before-success");
            self.settling.record(key, applied);
        }
        if let Some(renewal) = &mut self.renewal {
            renewal.let_go(delivery.token);
        }
        let (verdict, kind) = self.verdicts.decide(&delivery, ended);
        self.settling.push(delivery, verdict, kind);
    }
}

impl Beat for LaneFeed<'_> {
    fn next(&self) -> Next {
        if self.is_over() {
            return Next::Over;
        }
        // Still odd, but another one: it is not the same handler that keeps the thread.
        self.pulse.store(self.pulse.load(Ordering::Relaxed).wrapping_add(2), Ordering::Relaxed);
        let until_timed = self.until_timed.get();
        self.until_timed.set(until_timed.wrapping_sub(1));
        if until_timed == 0 { Next::Timed } else { Next::Plain }
    }

    fn time_starts(&self) {
        self.began.set(Some(Instant::now()));
    }

    fn ends(&self) {
        self.armed.set(false);
        if let Some(began) = self.began.take() {
            self.stats.took(began.elapsed());
        }
    }
}

/// The shorter way, for a subscription that looks at nothing but the event and its id: no rules on headers, no observer, no
/// lease, no inbox but one in memory, and no batches.
fn local(subscription: &Subscription) -> Option<&dyn Local> {
    let spec = &subscription.handler.spec;
    let plain = subscription.inbox.as_deref().is_none_or(|inbox| inbox.in_memory().is_some())
        && subscription.observer.is_none()
        && subscription.lease.is_none()
        && spec.headers.is_empty()
        && !spec.takes_batch;
    if plain { subscription.consumer.local() } else { None }
}

#[cold]
fn too_deep(message: &Message, max: u32) -> Ended {
    let path = message.lineage().map(|lineage| lineage.path().iter().map(|topic| topic.as_str()).collect::<Vec<_>>().join(" → "));
    let (hops, path, topic) = (message.hops(), path.unwrap_or_default(), message.topic());
    let text = format!("the chain of events is {hops} hops deep, at most {max} are allowed: {path} → {topic}");
    Ended::failed(FailureKind::HopLimit, text)
}

#[cold]
fn too_large(bytes: usize, max: usize) -> Ended {
    Ended::failed(FailureKind::Oversized, format!("payload of {bytes} bytes, at most {max} are allowed"))
}

impl LaneFeed<'_> {
    /// A run is lent. Of each the time of one message is taken, of quick ones the first as well as the last: where messages
    /// are few, of every one.
    fn begin_run(&mut self) {
        self.lent_at = Some(Instant::now());
        self.runs = self.runs.wrapping_add(1);
        self.until_timed.set(self.runs.checked_rem(self.lent).unwrap_or(0));
        self.in_attempt.set(1);
        self.stats.started.add(1);
    }

    /// How many messages of the run, from the first, may reach the handler; in the inbox their ids are reserved.
    fn reserved_run(&self) -> usize {
        let count = self.acceptable();
        match self.inbox() {
            Some(inbox) => inbox.reserve_run(self.run.as_slice().get(..count).unwrap_or_default()),
            None => count,
        }
    }

    /// The inbox, where runs are reserved in it.
    fn inbox(&self) -> Option<&MemoryInbox> {
        self.subscription.inbox.as_deref()?.in_memory().filter(|_| !mutant::is("no-reservation"))
    }

    fn acceptable(&self) -> usize {
        let messages = self.run.as_slice();
        // Nothing that is checked is wrong with a typed event that begins a chain.
        let plain = |message: &Message| message.lineage().is_none() && matches!(message.payload(), Payload::Typed(_));
        messages.iter().position(|message| !plain(message) && self.refusal(message, None).is_some()).unwrap_or(messages.len())
    }

    /// Ready when what the worker holds is somebody else's by now.
    pub(super) fn poll_renewal(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(renewal) = &mut self.renewal else { return Poll::Pending };
        renewal.poll(cx, self.waiting.iter().map(|delivery| delivery.token))
    }

    fn reserved(&self, reserved: Result<Reservation, Error>) -> Reservation {
        reserved.unwrap_or_else(|error| {
            // Without an answer nothing may run: the message comes again.
            tracing::warn!(handler = self.subscription.name(), %error, "the inbox did not answer");
            Reservation::Busy
        })
    }
}
