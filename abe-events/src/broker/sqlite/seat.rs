//! A consumer's place: what it holds, how much it may hold, and whether it is closed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{ConsumerId, Delivery, SubscriptionSpec, Token};
use super::claim::Claimed;
use super::settle::Held;
use crate::message::Id;

/// A delivery in this consumer's hands.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) id: Id,
    pub(super) held: Held,
    /// When its lease ends, by this process's clock: what is counted, not who may settle.
    until: Instant,
}

#[derive(Debug, Default)]
struct Hands {
    holdings: HashMap<Token, Holding, RandomState>,
    next_token: u64,
    /// Asked of the writer and not answered yet.
    asked: usize,
}

/// The place.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) id: ConsumerId,
    pub(super) lanes: u32,
    pub(super) lease: Duration,
    pub(super) bytes_max: usize,
    unsettled_max: usize,
    hands: Mutex<Hands>,
    /// Told when there is room for more.
    pub(super) room: Notify,
    pub(super) closed: CancellationToken,
}

impl Seat {
    pub(super) fn new(id: ConsumerId, spec: &SubscriptionSpec, lease: Duration) -> Self {
        Self {
            id,
            lanes: spec.lanes,
            lease,
            bytes_max: spec.buffer_bytes.max(1),
            unsettled_max: spec.unsettled_max as usize,
            hands: Mutex::default(),
            room: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for at most so many; it is kept until the reservation is dropped.
    pub(super) fn reserve(&self, max: usize) -> Reserved<'_> {
        let mut hands = self.lock();
        let mut used = hands.holdings.len() + hands.asked;
        if used >= self.unsettled_max {
            // What outlived its lease is no longer in these hands, unless it is settled before anyone took it.
            let now = Instant::now();
            let outlived = hands.holdings.values().filter(|holding| holding.until < now).count();
            used -= outlived;
            if outlived > self.unsettled_max {
                hands.holdings.retain(|_, holding| holding.until >= now);
            }
        }
        let count = self.unsettled_max.saturating_sub(used).min(max);
        hands.asked += count;
        Reserved { seat: self, count }
    }

    /// When the first lease ends of what is held, so that a lane without room knows when to look again.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.lock().holdings.values().map(|holding| holding.until).min()
    }

    /// Takes what was handed out.
    pub(super) fn hold(&self, claimed: Vec<Claimed>, began: Instant, into: &mut Vec<Delivery>) {
        let mut hands = self.lock();
        let until = began + self.lease;
        for Claimed { held, message, failures } in claimed {
            if held.attempt > 1 {
                // Its earlier delivery, if it is still here, has lost its lease.
                hands.holdings.retain(|_, holding| holding.held.seq != held.seq);
            }
            hands.next_token += 1;
            let token = Token(hands.next_token);
            hands.holdings.insert(token, Holding { id: message.id().clone(), held, until });
            into.push(Delivery { message, attempt: held.attempt, token, failures });
        }
    }

    /// Takes a delivery out of the hands, if it is there.
    pub(super) fn let_go(&self, token: Token, id: &Id) -> Option<Holding> {
        let mut hands = self.lock();
        if hands.holdings.get(&token)?.id != *id {
            return None;
        }
        hands.holdings.remove(&token)
    }

    /// Puts a delivery back that could not be settled.
    pub(super) fn take_back(&self, token: Token, holding: Holding) {
        self.lock().holdings.insert(token, holding);
    }

    pub(super) fn get(&self, token: Token) -> Option<Held> {
        self.lock().holdings.get(&token).map(|holding| holding.held)
    }

    /// A lease was renewed.
    pub(super) fn extend(&self, token: Token, began: Instant) {
        if let Some(holding) = self.lock().holdings.get_mut(&token) {
            holding.until = began + self.lease;
        }
    }

    /// Everything that is held, which it is no longer.
    pub(super) fn drain(&self) -> Vec<Held> {
        self.lock().holdings.drain().map(|(_, holding)| holding.held).collect()
    }
}

/// Room that was taken for what is asked.
#[derive(Debug)]
pub(super) struct Reserved<'a> {
    seat: &'a Seat,
    pub(super) count: usize,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.seat.lock().asked -= self.count;
            self.seat.room.notify_one();
        }
    }
}
