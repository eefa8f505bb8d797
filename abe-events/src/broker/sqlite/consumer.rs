//! The consumer of a subscription.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::fate::Fate;
use super::super::{Answer, Consumer, ConsumerId, Delivery, Depth, Settled, Settlement, Token};
use super::call::{call, closed, ended};
use super::claim::{Claim, Handout};
use super::live::Live;
use super::Seat;
use super::settle::{Held, Settle, renew};
use super::writer::Inbox;
use crate::error::{ErrorKind, Result};

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
        self.seat.admit(lane)?;
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
            let reserved = self.seat.wait_for_room(max).await;
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

    async fn settle_some(&self, settlements: Vec<Settlement>) -> Settled {
        let mut underway = self.seat.let_go_all(settlements);
        let came = if underway.is_empty() {
            Ok(Vec::new())
        } else {
            let (reply, answer) = oneshot::channel();
            match self.inbox.push(Box::new(Settle::new(self.subscription, underway.items(), reply))) {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(ended())),
                Err(_) => Err(closed()),
            }
        };
        self.seat.settled(underway, came, ended)
    }

    async fn renew_some(&self, tokens: &[Token]) -> Result<Vec<Token>> {
        let (known, mut lost) = self.seat.known(tokens);
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
