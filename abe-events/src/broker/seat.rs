//! A consumer's place: what it holds, how much it may hold, and whether it is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fate::{Came, Fate};
use super::{ConsumerId, Delivery, Failure, Settled, Settlement, SubscriptionSpec, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Id, Message};

/// A delivery as its store knows it.
pub(super) trait Held: Clone + std::fmt::Debug {
    /// Whether it is over with the lease, by this process's clock, because the store would still take its word.
    const ENDS_WITH_LEASE: bool = false;

    /// Where it stands in the store, the same for every attempt.
    fn place(&self) -> i64;

    /// Which attempt it is, from 1.
    fn attempt(&self) -> u32;
}

/// A message handed out.
#[derive(Debug)]
pub(super) struct Claimed<H> {
    pub(super) held: H,
    pub(super) message: Message,
    pub(super) failures: Option<Arc<Vec<Failure>>>,
}

/// A delivery in this consumer's hands.
#[derive(Debug, Clone)]
pub(super) struct Holding<H> {
    id: Id,
    held: H,
    /// When its lease ends, by this process's clock: what is counted, not who may settle.
    until: Instant,
}

impl<H: Held> Holding<H> {
    /// Whether it may still be settled, as far as this process can tell.
    fn stands(&self) -> bool {
        !H::ENDS_WITH_LEASE || Instant::now() < self.until || crate::mutant::is("nats-lease-unchecked")
    }
}

#[derive(Debug)]
struct Hands<H> {
    holdings: HashMap<Token, Holding<H>, RandomState>,
    next_token: u64,
    /// Asked of the writer and not answered yet.
    asked: usize,
}

/// The place.
#[derive(Debug)]
pub(super) struct Seat<H> {
    pub(super) id: ConsumerId,
    pub(super) lanes: u32,
    pub(super) lease: Duration,
    pub(super) bytes_max: usize,
    unsettled_max: usize,
    hands: Mutex<Hands<H>>,
    /// Told when there is room for more.
    pub(super) room: Notify,
    pub(super) closed: CancellationToken,
}

impl<H: Held> Seat<H> {
    pub(super) fn new(id: ConsumerId, spec: &SubscriptionSpec, lease: Duration) -> Self {
        Self {
            id,
            lanes: spec.lanes,
            lease,
            bytes_max: spec.buffer_bytes.max(1),
            unsettled_max: spec.unsettled_max as usize,
            hands: Mutex::new(Hands { holdings: HashMap::default(), next_token: 0, asked: 0 }),
            room: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hands<H>> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a lane that the subscription was not made with.
    pub(super) fn admit(&self, lane: u32) -> Result<()> {
        if lane < self.lanes {
            return Ok(());
        }
        let text = format!("lane {lane} asks for deliveries, the subscription was made with {}", self.lanes);
        Err(Error::new(ErrorKind::Config, text))
    }

    /// Waits until there is room, and takes it for at most so many.
    pub(super) async fn wait_for_room(&self, max: usize) -> Reserved<'_, H> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let reserved = self.reserve(max);
            if reserved.count > 0 {
                return reserved;
            }
            let end = self.first_end().unwrap_or_else(|| Instant::now() + self.lease);
            let _ = tokio::time::timeout_at(end + Duration::from_millis(1), room).await;
        }
    }

    /// Room for at most so many; it is kept until the reservation is dropped.
    fn reserve(&self, max: usize) -> Reserved<'_, H> {
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
    fn first_end(&self) -> Option<Instant> {
        self.lock().holdings.values().map(|holding| holding.until).min()
    }

    /// Takes what was handed out.
    pub(super) fn hold(&self, claimed: Vec<Claimed<H>>, began: Instant, into: &mut Vec<Delivery>) {
        let mut hands = self.lock();
        let until = began + self.lease;
        for Claimed { held, message, failures } in claimed {
            let attempt = held.attempt();
            if attempt > 1 {
                // Its earlier delivery, if it is still here, has lost its lease.
                hands.holdings.retain(|_, holding| holding.held.place() != held.place());
            }
            hands.next_token += 1;
            let token = Token(hands.next_token);
            hands.holdings.insert(token, Holding { id: message.id().clone(), held, until });
            into.push(Delivery { message, attempt, token, failures });
        }
    }

    /// Takes a delivery out of the hands, if it is there.
    fn let_go(&self, token: Token, id: &Id) -> Option<Holding<H>> {
        let mut hands = self.lock();
        if hands.holdings.get(&token)?.id != *id {
            return None;
        }
        hands.holdings.remove(&token).filter(Holding::stands)
    }

    /// Takes deliveries out of the hands, to be settled in the store; those that are not there any more are lost.
    pub(super) fn let_go_all(&self, mut settlements: Vec<Settlement>) -> Underway<H> {
        let mut underway = Underway { settled: Settled::default(), taken: Vec::with_capacity(settlements.len()) };
        for settlement in settlements.drain(..) {
            match self.let_go(settlement.delivery.token, settlement.delivery.message.id()) {
                None => underway.settled.lost.push(settlement.delivery.message.id().clone()),
                Some(holding) => underway.taken.push((settlement, holding)),
            }
        }
        underway.settled.emptied = settlements;
        underway
    }

    /// Notes what came of them, in their order; what could not be settled is in the hands again.
    pub(super) fn settled(&self, underway: Underway<H>, came: Result<Vec<Came>>, missing: fn() -> Error) -> Settled {
        let Underway { mut settled, taken } = underway;
        let mut came = came.map(Vec::into_iter);
        for (settlement, holding) in taken {
            let one = match &mut came {
                Ok(came) => came.next().unwrap_or_else(|| Came::Failed(missing())),
                Err(error) => Came::Failed(Error::new(error.kind(), error.to_string())),
            };
            match one {
                Came::Done => {}
                #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
                Came::Lost => settled.lost.push(holding.id),
                Came::Failed(error) => {
                    self.lock().holdings.insert(settlement.delivery.token, holding);
                    settled.failed.push((settlement, error));
                }
            }
        }
        self.room.notify_one();
        settled
    }

    /// Those of the tokens that are held, with what they stand for; and those that are not.
    pub(super) fn known(&self, tokens: &[Token]) -> (Vec<(Token, H)>, Vec<Token>) {
        let hands = self.lock();
        let mut lost = Vec::new();
        let known = tokens.iter().filter_map(|token| {
            let holding = hands.holdings.get(token).filter(|holding| holding.stands());
            if holding.is_none() {
                lost.push(*token);
            }
            holding.map(|holding| (*token, holding.held.clone()))
        });
        (known.collect(), lost)
    }

    /// A lease was renewed; whether there still is what it was for.
    pub(super) fn extend(&self, token: Token, began: Instant) -> bool {
        match self.lock().holdings.get_mut(&token) {
            Some(holding) => holding.until = began + self.lease,
            None => return false,
        }
        true
    }

    /// How much is held.
    #[cfg(feature = "nats")]
    pub(super) fn held(&self) -> usize {
        self.lock().holdings.len()
    }

    /// Everything that is held, which it is no longer.
    pub(super) fn drain(&self) -> Vec<H> {
        self.lock().holdings.drain().map(|(_, holding)| holding.held).collect()
    }
}

/// Deliveries that were taken out of the hands, on their way to the store.
#[derive(Debug)]
pub(super) struct Underway<H> {
    settled: Settled,
    taken: Vec<(Settlement, Holding<H>)>,
}

impl<H: Held> Underway<H> {
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// What the store is to do with each.
    pub(super) fn items(&mut self) -> Vec<(H, Fate)> {
        self.taken.iter_mut().map(|(settlement, holding)| (holding.held.clone(), Fate::of(settlement))).collect()
    }
}

/// Room that was taken for what is asked.
#[derive(Debug)]
pub(super) struct Reserved<'a, H: Held> {
    seat: &'a Seat<H>,
    pub(super) count: usize,
}

impl<H: Held> Drop for Reserved<'_, H> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.seat.lock().asked -= self.count;
            self.seat.room.notify_one();
        }
    }
}
