//! Feeding the lanes of one consumer: one request to the server at a time, for as much as the lanes wait for.
//!
//! The server counts what it sends as delivered, so little is asked for that nobody may want. What comes when nobody waits any more
//! is kept for whoever asks next, which keeps it in order, and is given back as no attempt if nobody does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::seat::Claimed;
use super::Shared;
use super::error::{Fault, NO_CONSUMER};
use super::live::Live;
use super::pull::{End, Pull, Pulled};
use super::settle::Held;
use super::{Seat, subscribe};
use crate::error::{Error, Result};

/// How long it is waited for the next who asks, before the task ends.
const LINGER: Duration = Duration::from_millis(200);

/// How long what nobody waits for is kept at most; never so long that much of its lease is over.
const KEEP_MAX: Duration = Duration::from_secs(5);

/// How much one request asks for at most.
const PULL_MAX: usize = 1_000;

/// How long nothing is asked for after the server has failed.
const PAUSE: Duration = Duration::from_millis(200);

/// A delivery in this process that no lane has yet, and from when its lease counts.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) claimed: Claimed<Held>,
    pub(super) came: Instant,
}

/// A lane that waits.
#[derive(Debug)]
struct Ask {
    max: usize,
    reply: oneshot::Sender<Result<Handout>>,
}

#[derive(Debug, Default)]
struct Waiting {
    asks: VecDeque<Ask>,
    fresh: VecDeque<Fresh>,
    served: bool,
}

/// The lanes of one consumer.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) seat: Seat,
    pub(super) live: Arc<Live>,
    pub(super) shared: Arc<Shared>,
    waiting: Mutex<Waiting>,
    /// Told when a lane asks.
    more: Notify,
    /// All is given back.
    pub(super) over: CancellationToken,
}

/// What a lane gets; what is not taken out goes to the next that asks.
#[derive(Debug)]
pub(super) struct Handout {
    fresh: Vec<Fresh>,
    feed: Arc<Feed>,
}

impl Handout {
    pub(super) fn take(&mut self) -> Vec<Fresh> {
        std::mem::take(&mut self.fresh)
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut waiting = self.feed.lock();
        for fresh in self.fresh.drain(..).rev() {
            waiting.fresh.push_front(fresh);
        }
        drop(waiting);
        self.feed.serve_if_needed();
    }
}

impl Feed {
    pub(super) fn new(seat: Seat, live: Arc<Live>, shared: Arc<Shared>) -> Self {
        Self { seat, live, shared, waiting: Mutex::default(), more: Notify::new(), over: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of the subscription is in this consumer's hands.
    pub(super) fn held(&self) -> usize {
        self.seat.held() + self.lock().fresh.len()
    }

    /// Lets a lane wait for something.
    pub(super) fn ask(self: &Arc<Self>, max: usize) -> oneshot::Receiver<Result<Handout>> {
        let (reply, answer) = oneshot::channel();
        self.lock().asks.push_back(Ask { max, reply });
        self.serve_if_needed();
        answer
    }

    fn serve_if_needed(self: &Arc<Self>) {
        let served = std::mem::replace(&mut self.lock().served, true);
        if served {
            self.more.notify_one();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.clone().serve());
        } else {
            self.lock().served = false;
        }
    }

    /// Gives what is there to those who asked first; how much is still waited for.
    fn hand_out(self: &Arc<Self>) -> usize {
        let mut waiting = self.lock();
        waiting.asks.retain(|ask| !ask.reply.is_closed());
        let mut unwanted = Vec::new();
        while !waiting.fresh.is_empty()
            && let Some(ask) = waiting.asks.pop_front()
        {
            let count = ask.max.min(waiting.fresh.len());
            let fresh = waiting.fresh.drain(..count).collect();
            // One that nobody takes puts itself back, which needs the lock.
            unwanted.push(ask.reply.send(Ok(Handout { fresh, feed: self.clone() })));
        }
        let wanted = waiting.asks.iter().map(|ask| ask.max).sum();
        drop(waiting);
        drop(unwanted);
        wanted
    }

    /// Tells all lanes what failed; they ask again later.
    fn fail(&self, error: &Error) {
        let asks = std::mem::take(&mut self.lock().asks);
        for ask in asks {
            let _ = ask.reply.send(Err(Error::new(error.kind(), error.to_string())));
        }
    }

    /// Feeds as long as anybody waits, and a moment longer.
    async fn serve(self: Arc<Self>) {
        let mut pull = None;
        let mut connected = self.shared.server.connected.clone();
        connected.mark_unchanged();
        let mut idle: Option<Instant> = None;
        while !self.seat.closed.is_cancelled() {
            let wanted = self.hand_out();
            if wanted > 0 {
                idle = None;
                if pull.is_none() {
                    match self.begin(wanted).await {
                        Ok(begun) => pull = Some(begun),
                        Err(fault) => self.failed(&fault).await,
                    }
                }
            } else if idle.get_or_insert_with(Instant::now).elapsed() >= self.patience() {
                self.give_back().await;
                if pull.is_none() && self.stop_serving() {
                    return;
                }
            }
            let until = idle.map(|since| since + self.patience());
            tokio::select! {
                biased;
                () = self.seat.closed.cancelled() => {}
                pulled = Pull::next(&mut pull) => self.pulled(&mut pull, pulled).await,
                // Requests that the server held ended with the connection.
                _ = connected.changed() => if connected.borrow_and_update().now { pull = None },
                () = self.more.notified() => {}
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some_and(|until| pull.is_none() || until > Instant::now()) => {}
            }
        }
        if let Some(pull) = pull {
            let messages = pull.finish(self.shared.server.timeout).await;
            self.keep(messages).await;
        }
        self.give_back().await;
        self.over.cancel();
    }

    /// Gives back what no lane has got.
    async fn give_back(&self) {
        let left: Vec<Held> = self.lock().fresh.drain(..).map(|fresh| fresh.claimed.held).collect();
        self.shared.give_back(&self.live, left).await;
    }

    /// How long it is waited for the next who asks.
    fn patience(&self) -> Duration {
        if self.lock().fresh.is_empty() { LINGER } else { (self.seat.lease / 6).min(KEEP_MAX) }
    }

    /// A closed consumer that nobody serves has nothing left to give back.
    pub(super) fn end_if_unserved(&self) {
        if !std::mem::replace(&mut self.lock().served, true) {
            self.over.cancel();
        }
    }

    /// Whether nobody has asked meanwhile, so that the next who does finds nobody serving.
    fn stop_serving(&self) -> bool {
        let mut waiting = self.lock();
        waiting.asks.retain(|ask| !ask.reply.is_closed());
        if waiting.asks.is_empty() {
            waiting.served = false;
        }
        !waiting.served
    }

    async fn begin(&self, wanted: usize) -> Result<Pull, Fault> {
        Pull::begin(&self.shared, &self.live.place, wanted.min(PULL_MAX), self.seat.bytes_max).await
    }

    /// Keeps what came.
    async fn pulled(self: &Arc<Self>, pull: &mut Option<Pull>, pulled: Pulled) {
        let Pulled { messages, end } = pulled;
        self.keep(messages).await;
        if end.is_some() {
            *pull = None;
        }
        if matches!(end, Some(End::Silent | End::Refused))
            && let Err(fault) = self.look_after_consumer().await
        {
            self.failed(&fault).await;
        }
    }

    /// Makes deliveries of what came.
    async fn keep(&self, messages: Vec<async_nats::Message>) {
        if messages.is_empty() {
            return;
        }
        let came = Instant::now();
        let fresh = self.shared.accept(&self.live, messages).await;
        self.lock().fresh.extend(fresh.into_iter().map(|claimed| Fresh { claimed, came }));
    }

    async fn failed(&self, fault: &Fault) {
        self.fail(&fault.failed());
        tokio::select! {
            () = self.seat.closed.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }

    /// Makes the consumer again if somebody has removed it.
    async fn look_after_consumer(&self) -> Result<(), Fault> {
        let (server, names, place) = (&self.shared.server, &self.shared.names, &self.live.place);
        match subscribe::info(server, names, place).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.is(NO_CONSUMER) => {
                tracing::error!(group = %place.group, subscription = %place.name, "the subscription's consumer was removed from the server; it is made again, and gets what other subscriptions have kept");
                subscribe::make(server, names, place, &self.live.table(), self.seat.lease).await
            }
            Err(fault) => Err(fault),
        }
    }
}
