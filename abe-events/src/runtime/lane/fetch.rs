//! Receiving: how many deliveries a lane takes at once, and the pause after a broker's error.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::broker::{Answer, Consumer, Delivery, Local, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::Policy;

/// How many deliveries a lane takes at most, unless a batch is larger.
const APPETITE_MAX: usize = 64;

/// How long a lane may work on what it took while other lanes have nothing: beyond, it takes less. Where a round to the
/// broker takes longer, as long as that: work that takes less than its round would mostly wait.
const CHUNK_TIME_MAX: Duration = Duration::from_micros(200);

/// The same while so much waits that no lane goes without: then a round that many share costs each of them little.
const CHUNK_TIME_DEEP: Duration = Duration::from_millis(100);

/// A round that took longer was waiting for something to come.
const ROUND_TIME_MAX: Duration = Duration::from_millis(20);

/// The pause after an error of the broker.
const PAUSE: Duration = Duration::from_millis(200);

type Receiving<'a> = Answer<'a, Result<Vec<Delivery>>>;

/// A lane's receiving end.
pub(super) struct Fetch<'a> {
    consumer: &'a dyn Consumer,
    /// The shorter way, where the subscription may go it.
    local: Option<&'a dyn Local>,
    lane: u32,
    receiving: Option<Receiving<'a>>,
    /// Whether a take is pending.
    taking: bool,
    pause: Option<Pin<Box<Sleep>>>,
    /// How many deliveries are asked for next.
    appetite: usize,
    least: usize,
    /// How many lanes could work on what this one takes.
    lanes: u32,
    /// What was taken last, if other lanes could have worked on it.
    chunk: Option<Chunk>,
    /// When the round to the broker began that is under way: with the settlement of what was handled.
    round_began: Option<Instant>,
    /// Whether the next call asks for a single delivery.
    one_next: bool,
    closed: bool,
}

/// What a lane took at once.
struct Chunk {
    count: u32,
    began: Instant,
    /// How long the round took that brought it.
    round: Duration,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(consumer: &'a dyn Consumer, local: Option<&'a dyn Local>, lane: u32, policy: &Policy) -> Self {
        let lanes = policy.concurrency;
        let least = policy.batch as usize;
        Self {
            consumer,
            local,
            lane,
            receiving: None,
            taking: false,
            pause: None,
            appetite: if lanes > 1 { least } else { least.max(APPETITE_MAX) },
            least,
            lanes,
            chunk: None,
            round_began: None,
            one_next: false,
            closed: false,
        }
    }

    /// What was taken is handled, and a round to the broker begins. With its end two clock reads per chunk, none per message.
    pub(super) fn round_begins(&mut self) {
        if self.lanes > 1 && self.round_began.is_none() {
            let now = Instant::now();
            self.round_began = Some(now);
            self.adapt(now);
        }
    }

    /// What comes may have to run alone: the next call takes a single delivery.
    pub(super) fn take_one_next(&mut self) {
        self.one_next = true;
    }

    /// The lane's number.
    pub(super) fn lane(&self) -> u32 {
        self.lane
    }

    /// Deliveries into `into`, or messages into `run`: `true` when there are some, `false` when the consumer is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, into: &mut VecDeque<Delivery>, run: &mut Run) -> Poll<bool> {
        loop {
            if self.closed {
                return Poll::Ready(false);
            }
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Some(local) = self.local {
                let mut deliveries = std::mem::take(into).into();
                let taken = local.poll_take(self.lane, self.appetite, run, &mut deliveries, cx);
                *into = deliveries.into();
                self.taking = taken.is_pending();
                match std::task::ready!(taken) {
                    Ok(()) if into.is_empty() && run.is_empty() => continue,
                    Ok(()) => {
                        self.round_ends(into.len() + run.as_slice().len());
                        return Poll::Ready(true);
                    }
                    Err(error) => self.refused(&error),
                }
                continue;
            }
            let received = match &mut self.receiving {
                Some(receiving) => {
                    let received = std::task::ready!(Pin::new(receiving).poll(cx));
                    self.receiving = None;
                    received
                }
                None => {
                    // The emptied queue's memory goes round: queue → vector → broker → queue.
                    let max = if std::mem::take(&mut self.one_next) { 1 } else { self.appetite };
                    match self.consumer.receive(self.lane, max, std::mem::take(into).into()).at_hand() {
                        Ok(received) => received,
                        Err(receiving) => {
                            self.receiving = Some(receiving);
                            continue;
                        }
                    }
                }
            };
            match received {
                Ok(deliveries) if deliveries.is_empty() => {}
                Ok(deliveries) => {
                    *into = deliveries.into();
                    self.round_ends(into.len());
                    return Poll::Ready(true);
                }
                Err(error) => self.refused(&error),
            }
        }
    }

    /// Asks for more while a settlement is under way, so that both are one round: one commit where the broker makes them so.
    pub(super) fn begin(&mut self) {
        let is_idle = self.receiving.is_none() && self.pause.is_none() && !self.closed;
        if is_idle && self.local.is_none() && !self.one_next && !crate::mutant::is("two-rounds") {
            self.receiving = Some(self.consumer.receive(self.lane, self.appetite, Vec::new()));
        }
    }

    /// Lets a call that was begun come to its end, beside whatever else the lane waits for. Left alone it would keep what it
    /// has, such as a connection, and with some lanes of that kind nobody else would get one.
    pub(super) fn poll_underway(&mut self, cx: &mut Context<'_>, into: &mut VecDeque<Delivery>) {
        if crate::mutant::is("calls-left-alone") {
            return;
        }
        let Some(receiving) = &mut self.receiving else { return };
        let Poll::Ready(received) = Pin::new(receiving).poll(cx) else { return };
        self.receiving = None;
        match received {
            Ok(deliveries) => {
                self.round_ends(deliveries.len());
                into.extend(deliveries);
            }
            Err(error) => self.refused(&error),
        }
    }

    #[cold]
    fn refused(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Closed {
            self.closed = true;
        } else {
            tracing::warn!(consumer = ?self.consumer, %error, "receiving failed, and is tried again");
            self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        }
    }

    /// Gives up receiving; what an answer had taken is released by the broker.
    pub(super) fn cancel(&mut self) {
        if std::mem::take(&mut self.taking)
            && let Some(local) = self.local
        {
            local.stop_taking(self.lane);
        }
        self.receiving = None;
    }

    /// Something came.
    fn round_ends(&mut self, count: usize) {
        let Some(round_began) = self.round_began.take() else { return };
        let began = Instant::now();
        let round = began.duration_since(round_began).min(ROUND_TIME_MAX);
        self.chunk = Some(Chunk { count: u32::try_from(count).unwrap_or(u32::MAX), began, round });
    }

    /// Takes more while handlers are quick and less when they are not, so that ready handlers share a round and slow ones
    /// leave the rest to other lanes.
    fn adapt(&mut self, now: Instant) {
        let Some(Chunk { count, began, round }) = self.chunk.take() else { return };
        let each = now.duration_since(began).as_nanos() / u128::from(count.max(1));
        let time = if self.is_deep() { CHUNK_TIME_DEEP } else { CHUNK_TIME_MAX.max(round) };
        let fits = time.as_nanos() / each.max(1);
        let most = self.appetite.saturating_mul(2).min(APPETITE_MAX);
        self.appetite = usize::try_from(fits).unwrap_or(usize::MAX).min(most).max(self.least);
    }
}

impl Fetch<'_> {
    /// Whether all lanes could take twice as much as this one does, as far as is known.
    fn is_deep(&self) -> bool {
        let each = 2 * self.appetite.min(APPETITE_MAX) as u64;
        self.consumer.depth().ready >= each * u64::from(self.lanes)
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.cancel();
    }
}
