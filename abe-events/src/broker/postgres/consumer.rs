//! The consumer of a subscription.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::fate::Fate;
use super::super::{Answer, Consumer, ConsumerId, Delivery, Depth, Settled, Settlement, Token};
use super::claim::{Ask, Claims, Handout};
use super::db::Db;
use super::live::Live;
use super::queue::Queue;
use super::settle::{Held, Settle, renew};
use super::{Seat, closed, ended};
use crate::error::Result;

/// A consumer. Dropping it gives back what it holds, as closing it does.
#[derive(Debug)]
pub(super) struct PostgresConsumer {
    pub(super) seat: Arc<Seat>,
    pub(super) live: Arc<Live>,
    pub(super) claims: Arc<Claims>,
    pub(super) settles: Arc<Queue<Settle>>,
    pub(super) db: Db,
}

impl PostgresConsumer {
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
                let mut handout = found?;
                if self.seat.closed.is_cancelled() {
                    return Err(closed());
                }
                let began = handout.began;
                self.seat.hold(handout.take(), began, &mut into);
                // A close that ran meanwhile may have looked too early.
                if self.seat.closed.is_cancelled() {
                    end(&self.seat, &self.live, &self.settles);
                }
                Ok(into)
            }
        }
    }

    /// Waits until something is handed out.
    async fn find(&self, max: usize) -> Result<Handout> {
        let reserved = self.seat.wait_for_room(max).await;
        let (reply, answer) = oneshot::channel();
        let ask = Ask { max: reserved.count, bytes_max: self.seat.bytes_max, lease: self.seat.lease, reply };
        self.claims.ask(&self.live, ask);
        answer.await.map_err(|_| ended())?
    }

    async fn settle_some(&self, settlements: Vec<Settlement>) -> Settled {
        let mut underway = self.seat.let_go_all(settlements);
        let came = if underway.is_empty() {
            Ok(Vec::new())
        } else {
            let (reply, answer) = oneshot::channel();
            match self.settles.push(Settle::new(self.live.clone(), underway.items(), reply)) {
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
        let held: Vec<Held> = known.iter().map(|(_, held)| *held).collect();
        let began = tokio::time::Instant::now();
        let alive = renew(&self.db, self.live.number, &held, self.seat.lease).await.map_err(|fault| fault.failed())?;
        for (token, held) in known {
            if alive.contains(&held.place) {
                self.seat.extend(token, began);
            } else {
                lost.push(token);
            }
        }
        Ok(lost)
    }

    async fn close_it(&self) -> Result<()> {
        end(&self.seat, &self.live, &self.settles);
        // Behind what was just given back; a broker that is closed has nothing left to wait for.
        let (reply, answer) = oneshot::channel();
        if self.settles.push(Settle::new(self.live.clone(), Vec::new(), reply)).is_ok() {
            let _ = answer.await;
        }
        Ok(())
    }
}

/// Closes a seat, and gives back what it holds; a handler may have run, so the attempts count.
pub(super) fn end(seat: &Seat, live: &Arc<Live>, settles: &Queue<Settle>) {
    seat.closed.cancel();
    // Whoever claims shall see that nobody waits any more.
    live.more.notify_one();
    let items: Vec<(Held, Fate)> =
        seat.drain().into_iter().map(|held| (held, Fate::Release { after: Duration::ZERO, counted: true })).collect();
    if !items.is_empty() {
        let _ = settles.push(Settle::unasked(live.clone(), items));
    }
}

impl Consumer for PostgresConsumer {
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
        Answer::later(self.close_it())
    }
}

impl Drop for PostgresConsumer {
    fn drop(&mut self) {
        end(&self.seat, &self.live, &self.settles);
    }
}
