//! The consumer of a subscription.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::{Answer, Consumer, ConsumerId, Delivery, Depth, Settled, Settlement, Token, Verdict};
use super::call::{call, closed, ended};
use super::claim::{Claim, Handout};
use super::live::Live;
use super::seat::{Holding, Reserved, Seat};
use super::settle::{Came, Fate, Held, Settle, renew};
use super::stored::failures_text;
use super::writer::Inbox;
use crate::error::{Error, ErrorKind, Result};

/// A consumer. Dropping it gives back what it holds, as closing it does.
#[derive(Debug)]
pub(super) struct SqliteConsumer {
    pub(super) subscription: i64,
    pub(super) seat: Arc<Seat>,
    pub(super) live: Arc<Live>,
    pub(super) inbox: Arc<Inbox>,
}

/// Counts a lane among those that ask.
struct Asking<'a>(&'a AtomicUsize);

impl<'a> Asking<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SqliteConsumer {
    async fn receive_some(&self, lane: u32, max: usize, mut into: Vec<Delivery>) -> Result<Vec<Delivery>> {
        if self.seat.closed.is_cancelled() {
            return Err(closed());
        }
        if lane >= self.seat.lanes {
            let text = format!("lane {lane} asks for deliveries, the subscription was made with {}", self.seat.lanes);
            return Err(Error::new(ErrorKind::Config, text));
        }
        if max == 0 {
            return Ok(into);
        }
        tokio::select! {
            biased;
            () = self.seat.closed.cancelled() => Err(closed()),
            found = self.find(max) => {
                let (mut handout, began) = found?;
                if self.seat.closed.is_cancelled() {
                    return Err(closed());
                }
                self.seat.hold(handout.take(), began, &mut into);
                // A close that ran meanwhile may have looked too early.
                if self.seat.closed.is_cancelled() {
                    Self::end(&self.seat, self.subscription, &self.inbox);
                }
                Ok(into)
            }
        }
    }

    /// Waits until something is handed out.
    async fn find(&self, max: usize) -> Result<(Handout, Instant)> {
        loop {
            let reserved = self.room(max).await;
            let _asking = Asking::new(&self.live.asking);
            let more = self.live.more.notified();
            tokio::pin!(more);
            // Before asking, so that what is committed between the answer and the wait is not missed.
            more.as_mut().enable();
            let began = Instant::now();
            let handout = self.claim(reserved.count).await?;
            if !handout.is_empty() {
                return Ok((handout, began));
            }
            drop(reserved);
            more.await;
        }
    }

    async fn room(&self, max: usize) -> Reserved<'_> {
        loop {
            let room = self.seat.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let reserved = self.seat.reserve(max);
            if reserved.count > 0 {
                return reserved;
            }
            let end = self.seat.first_end().unwrap_or_else(|| Instant::now() + self.seat.lease);
            let _ = tokio::time::timeout_at(end + Duration::from_millis(1), room).await;
        }
    }

    async fn claim(&self, max: usize) -> Result<Handout> {
        let (reply, answer) = oneshot::channel();
        let claim = Claim {
            subscription: self.subscription,
            max,
            bytes_max: self.seat.bytes_max,
            lease: self.seat.lease,
            found: Vec::new(),
            inbox: self.inbox.clone(),
            reply,
        };
        self.inbox.push(Box::new(claim)).map_err(|_| closed())?;
        answer.await.map_err(|_| ended())?
    }

    async fn settle_some(&self, mut settlements: Vec<Settlement>) -> Settled {
        let mut settled = Settled::default();
        let mut items: Vec<(Held, Fate)> = Vec::with_capacity(settlements.len());
        let mut taken: Vec<(Settlement, Holding)> = Vec::with_capacity(settlements.len());
        for mut settlement in settlements.drain(..) {
            match self.seat.let_go(settlement.delivery.token, settlement.delivery.message.id()) {
                None => settled.lost.push(settlement.delivery.message.id().clone()),
                Some(holding) => {
                    items.push((holding.held, fate_of(&mut settlement)));
                    taken.push((settlement, holding));
                }
            }
        }
        settled.emptied = settlements;
        if items.is_empty() {
            return settled;
        }
        let (reply, answer) = oneshot::channel();
        let came = match self.inbox.push(Box::new(Settle::new(self.subscription, items, reply))) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(ended())),
            Err(_) => Err(closed()),
        };
        self.report(taken, came, &mut settled);
        self.seat.room.notify_one();
        settled
    }

    fn report(&self, taken: Vec<(Settlement, Holding)>, came: Result<Vec<Came>>, settled: &mut Settled) {
        let failed = |error: &Error| Error::new(error.kind(), error.to_string());
        let mut came = came.map(Vec::into_iter);
        for (settlement, holding) in taken {
            let one = match &mut came {
                Ok(came) => came.next().unwrap_or_else(|| Came::Failed(ended())),
                Err(error) => Came::Failed(failed(error)),
            };
            match one {
                Came::Done => {}
                Came::Lost => settled.lost.push(holding.id),
                Came::Failed(error) => {
                    self.seat.take_back(settlement.delivery.token, holding);
                    settled.failed.push((settlement, error));
                }
            }
        }
    }

    async fn renew_some(&self, tokens: &[Token]) -> Result<Vec<Token>> {
        let known: Vec<(Token, Held)> = tokens.iter().filter_map(|token| self.seat.get(*token).map(|held| (*token, held))).collect();
        let mut lost: Vec<Token> = tokens.iter().filter(|token| known.iter().all(|(known, _)| known != *token)).copied().collect();
        if known.is_empty() {
            return Ok(lost);
        }
        let (subscription, lease) = (self.subscription, self.seat.lease);
        let items: Vec<Held> = known.iter().map(|(_, held)| *held).collect();
        let began = Instant::now();
        let alive = call(&self.inbox, move |tx| renew(tx, subscription, &items, lease)).await?;
        for ((token, _), alive) in known.into_iter().zip(alive) {
            if alive {
                self.seat.extend(token, began);
            } else {
                lost.push(token);
            }
        }
        Ok(lost)
    }

    /// Closes a seat, and gives back what it holds; a handler may have run, so the attempts count.
    pub(super) fn end(seat: &Seat, subscription: i64, inbox: &Inbox) {
        seat.closed.cancel();
        let items: Vec<(Held, Fate)> =
            seat.drain().into_iter().map(|held| (held, Fate::Release { after: Duration::ZERO, counted: true })).collect();
        if !items.is_empty() {
            let _ = inbox.push(Box::new(Settle::unasked(subscription, items)));
        }
    }
}

/// What the writer needs of a verdict.
fn fate_of(settlement: &mut Settlement) -> Fate {
    let Settlement { delivery, verdict } = settlement;
    let mut all_failures = |failure: &super::super::Failure| {
        // The delivery may come back, unsettled: it keeps the failures it had.
        let before = delivery.failures.clone();
        let text = failures_text(&delivery.failures_with(failure.clone()));
        delivery.failures = before;
        text
    };
    match verdict {
        Verdict::Ack => Fate::Ack,
        Verdict::Release { after } => Fate::Release { after: *after, counted: false },
        Verdict::Retry { after, failure } => Fate::Retry { after: *after, failures: all_failures(failure) },
        Verdict::DeadLetter { failure } => {
            let at = failure.at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Fate::Dead { failures: all_failures(failure), at_ms: i64::try_from(at.as_millis()).unwrap_or(i64::MAX) }
        }
    }
}

impl Consumer for SqliteConsumer {
    fn id(&self) -> ConsumerId {
        self.seat.id
    }

    fn receive(&self, lane: u32, max: usize, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        Answer::later(self.receive_some(lane, max, into))
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        Answer::later(self.settle_some(settlements))
    }

    fn renew<'a>(&'a self, tokens: &'a [Token]) -> Answer<'a, Result<Vec<Token>>> {
        Answer::later(self.renew_some(tokens))
    }

    fn depth(&self) -> Depth {
        self.live.depth()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        Answer::later(async {
            Self::end(&self.seat, self.subscription, &self.inbox);
            // Behind what was just given back; a broker that is closed has nothing left to wait for.
            match call(&self.inbox, |_| Ok(())).await {
                Err(error) if error.kind() != ErrorKind::Closed => Err(error),
                _ => Ok(()),
            }
        })
    }
}

impl Drop for SqliteConsumer {
    fn drop(&mut self) {
        Self::end(&self.seat, self.subscription, &self.inbox);
    }
}
