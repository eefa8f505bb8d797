//! The consumer of a subscription.

use std::sync::Arc;

use super::super::{Answer, Consumer, ConsumerId, Delivery, Depth, Settled, Settlement, Token};
use super::claim::{Ask, Handout, find};
use super::live::Live;
use super::settle::Held;
use super::{Seat, Shared, closed, ended};
use crate::error::Result;

/// A consumer. Dropping it gives back what it holds, as closing it does.
#[derive(Debug)]
pub(super) struct RedisConsumer {
    pub(super) seat: Arc<Seat>,
    pub(super) live: Arc<Live>,
    pub(super) shared: Arc<Shared>,
}

impl RedisConsumer {
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
                    self.shared.give_back(&self.live, self.seat.drain(), true);
                }
                Ok(into)
            }
        }
    }

    async fn find(&self, max: usize) -> Result<Handout> {
        let reserved = self.seat.wait_for_room(max).await;
        let ask = Ask { max: reserved.count, bytes_max: self.seat.bytes_max, lease: self.seat.lease };
        find(&self.shared, &self.live, ask).await
    }

    async fn settle_some(&self, settlements: Vec<Settlement>) -> Settled {
        let mut underway = self.seat.let_go_all(settlements);
        let came = if self.seat.closed.is_cancelled() {
            Err(closed())
        } else if underway.is_empty() {
            Ok(Vec::new())
        } else {
            self.shared.settle(&self.live, underway.items()).await.map_err(|fault| fault.failed())
        };
        self.seat.settled(underway, came, ended)
    }

    async fn renew_some(&self, tokens: &[Token]) -> Result<Vec<Token>> {
        let (known, mut lost) = self.seat.known(tokens);
        if known.is_empty() {
            return Ok(lost);
        }
        let held: Vec<Held> = known.iter().map(|(_, held)| held.clone()).collect();
        let began = tokio::time::Instant::now();
        let kept = self.shared.renew(&self.live, &held, self.seat.lease).await.map_err(|fault| fault.failed())?;
        for ((token, _), kept) in known.into_iter().zip(kept) {
            if kept {
                self.seat.extend(token, began);
            } else {
                lost.push(token);
            }
        }
        Ok(lost)
    }

    async fn close_it(&self) -> Result<()> {
        self.seat.closed.cancel();
        end(&self.seat, &self.live, &self.shared).await;
        Ok(())
    }
}

/// Gives back what a seat holds; a handler may have run, so the attempts count.
pub(super) async fn end(seat: &Seat, live: &Live, shared: &Shared) {
    seat.closed.cancel();
    let held = seat.drain();
    if !held.is_empty() {
        shared.give_back_now(live, held, true).await;
    }
}

impl Consumer for RedisConsumer {
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

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.seat.closed.cancel();
        self.shared.give_back(&self.live, self.seat.drain(), true);
    }
}
