//! The consumer of a subscription.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::super::fate::Fate;
use super::super::{Answer, Consumer, ConsumerId, Delivery, Depth, Settled, Settlement, Token};
use super::feed::Feed;
use super::settle::Held;
use super::{closed, ended};
use crate::error::Result;

/// How many settlements are on their way at once.
const SETTLE_MAX: usize = 512;

/// A consumer. Dropping it gives back what it holds, as closing it does.
#[derive(Debug)]
pub(super) struct NatsConsumer {
    pub(super) feed: Arc<Feed>,
}

impl NatsConsumer {
    async fn receive_some(&self, lane: u32, max: usize, mut into: Vec<Delivery>) -> Result<Vec<Delivery>> {
        let seat = &self.feed.seat;
        if seat.closed.is_cancelled() {
            return Err(closed());
        }
        seat.admit(lane)?;
        if max == 0 {
            return Ok(into);
        }
        tokio::select! {
            biased;
            () = seat.closed.cancelled() => Err(closed()),
            found = self.find(max) => {
                let mut handout = found?;
                if seat.closed.is_cancelled() {
                    return Err(closed());
                }
                for fresh in handout.take() {
                    seat.hold(vec![fresh.claimed], fresh.came, &mut into);
                }
                // A close that ran meanwhile may have looked too early.
                if seat.closed.is_cancelled() {
                    end(&self.feed);
                }
                Ok(into)
            }
        }
    }

    async fn find(&self, max: usize) -> Result<super::feed::Handout> {
        let reserved = self.feed.seat.wait_for_room(max).await;
        self.feed.ask(reserved.count).await.map_err(|_| if self.feed.seat.closed.is_cancelled() { closed() } else { ended() })?
    }

    async fn settle_some(&self, settlements: Vec<Settlement>) -> Settled {
        let seat = &self.feed.seat;
        let _settling = self.feed.live.settling(settlements.len());
        let mut underway = seat.let_go_all(settlements);
        if underway.is_empty() {
            return seat.settled(underway, Ok(Vec::new()), ended);
        }
        let mut items = underway.items();
        let mut came = Vec::with_capacity(items.len());
        while !items.is_empty() {
            let rest = items.split_off(items.len().min(SETTLE_MAX));
            came.append(&mut self.feed.shared.settle(&self.feed.live, std::mem::replace(&mut items, rest)).await);
        }
        seat.settled(underway, Ok(came), ended)
    }

    async fn renew_some(&self, tokens: &[Token]) -> Result<Vec<Token>> {
        let (known, mut lost) = self.feed.seat.known(tokens);
        let began = Instant::now();
        let prolonged = known.into_iter().map(async |(token, held)| (token, self.feed.shared.prolong(&held).await));
        let mut failed = None;
        for (token, came) in join_all(prolonged).await {
            match came {
                Ok(()) if self.feed.seat.extend(token, began) => {}
                Ok(()) => lost.push(token),
                Err(fault) => failed = Some(fault),
            }
        }
        match failed {
            // They have the time they had; asked again, those that are lost are told.
            Some(fault) if lost.is_empty() => Err(fault.failed()),
            _ => Ok(lost),
        }
    }

    async fn close_it(&self) -> Result<()> {
        if let Some(given_back) = end(&self.feed) {
            let _ = given_back.await;
        }
        self.feed.over.cancelled().await;
        Ok(())
    }
}

/// Closes a seat, and gives back what it holds; a handler may have run, so the attempts count.
pub(super) fn end(feed: &Arc<Feed>) -> Option<tokio::task::JoinHandle<()>> {
    feed.seat.closed.cancel();
    feed.end_if_unserved();
    let items: Vec<(Held, Fate)> =
        feed.seat.drain().into_iter().map(|held| (held, Fate::Release { after: std::time::Duration::ZERO, counted: true })).collect();
    if items.is_empty() {
        return None;
    }
    let feed = feed.clone();
    // Without a runtime nobody can be told: the deliveries end with their leases.
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(runtime.spawn(async move {
        feed.shared.settle(&feed.live, items).await;
    }))
}

impl Consumer for NatsConsumer {
    fn id(&self) -> ConsumerId {
        self.feed.seat.id
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
        self.feed.live.depth()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        Answer::later(self.close_it())
    }
}

impl Drop for NatsConsumer {
    fn drop(&mut self) {
        end(&self.feed);
    }
}
