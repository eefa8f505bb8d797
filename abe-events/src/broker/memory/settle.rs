//! Settling: carrying out verdicts, and taking back what a consumer leaves behind.

use std::time::Duration;

use super::super::{DeadLetter, Delivery, Settled, Settlement, Verdict};
use super::budget::Load;
use super::letters::Letters;
use super::queue::{Item, Queue, State};
use super::seat::Seat;
use crate::error::Error;
use crate::sync::lock;

/// Why a settlement was not carried out.
enum Refusal {
    Lost,
    Failed(Box<(Settlement, Error)>),
}

impl Queue {
    /// Carries out verdicts, in order.
    pub(super) fn settle(&self, seat: &Seat, letters: &Letters, mut settlements: Vec<Settlement>) -> Settled {
        let mut settled = Settled::default();
        if seat.lease.is_none() && !self.is_ordered() && self.ack_all(seat, &settlements) {
            settlements.clear();
        } else {
            for settlement in settlements.drain(..) {
                let id = settlement.delivery.message.id().clone();
                match self.settle_one(seat, letters, settlement) {
                    Ok(()) => {}
                    Err(Refusal::Lost) => settled.lost.push(id),
                    Err(Refusal::Failed(failed)) => settled.failed.push(*failed),
                }
            }
        }
        settled.emptied = settlements;
        settled
    }

    /// The usual case, without a lock: all from one lane, all acks, nothing else kept of them. `false` if it is not that case.
    fn ack_all(&self, seat: &Seat, settlements: &[Settlement]) -> bool {
        let Some(lane) = settlements.first().and_then(|first| seat.lane_of(first.delivery.token)) else { return settlements.is_empty() };
        let token = seat.token(lane);
        let mut load = Load::default();
        for settlement in settlements {
            if !matches!(settlement.verdict, Verdict::Ack) || settlement.delivery.token != token {
                return false;
            }
            load.add(Load::one(settlement.delivery.message.weight()));
        }
        seat.take_back(lane, settlements.len());
        self.end_all(load);
        true
    }

    fn settle_one(&self, seat: &Seat, letters: &Letters, settlement: Settlement) -> Result<(), Refusal> {
        let Settlement { mut delivery, verdict } = settlement;
        let mut state = lock(&self.state);
        let Some(lane) = self.lane_of(&state, seat, &delivery) else { return Err(Refusal::Lost) };
        let mut replaced = None;
        if let Verdict::DeadLetter { failure } = &verdict {
            let before = delivery.failures.clone();
            let letter = self.dead_letter(&mut delivery, (**failure).clone());
            match letters.store(letter) {
                Ok(old) => replaced = old,
                Err(refused) => {
                    drop(state);
                    let (error, letter) = *refused;
                    drop(letter);
                    delivery.failures = before;
                    return Err(Refusal::Failed(Box::new((Settlement { delivery, verdict }, error))));
                }
            }
        }
        let kept = if seat.lease.is_some() { state.leases.take(delivery.token) } else { None };
        match verdict {
            Verdict::Retry { after, failure } => {
                delivery.failures = Some(delivery.failures_with(*failure));
                self.put_back(state, seat, lane, item_of(delivery, 0), after);
            }
            Verdict::Release { after } => self.put_back(state, seat, lane, item_of(delivery, 1), after),
            Verdict::Ack | Verdict::DeadLetter { .. } => {
                self.end(&mut state, &delivery);
                drop(state);
                seat.take_back(lane, 1);
                self.finish(&delivery);
            }
        }
        // Only now: dropping a message may run foreign code.
        drop((kept, replaced));
        Ok(())
    }

    /// The lane that holds a delivery, if this consumer may settle it.
    fn lane_of(&self, state: &State, seat: &Seat, delivery: &Delivery) -> Option<u32> {
        if seat.lease.is_none() {
            return seat.lane_of(delivery.token);
        }
        let lease = state.leases.get(delivery.token)?;
        let own = lease.consumer == seat.id || crate::mutant::is("token-unchecked");
        (own && lease.item.message.id() == delivery.message.id()).then_some(lease.lane)
    }

    /// A message has ended: the next of its key may go.
    fn end(&self, state: &mut State, delivery: &Delivery) {
        if self.is_ordered()
            && let Some(key) = delivery.message.key()
            && let Some(next) = state.gate.leave(key)
        {
            state.returned.push_back(next);
        }
    }

    /// What follows the end of a message once the lock is free.
    fn finish(&self, delivery: &Delivery) {
        if self.is_ordered() {
            self.waiters.notify_one();
        }
        self.end_all(Load::one(delivery.message.weight()));
    }

    /// Gives an unsettled item back to the queue, at once or for later.
    fn put_back(&self, mut state: crate::sync::MutexGuard<'_, State>, seat: &Seat, lane: u32, mut item: Item, after: Duration) {
        item.owns_key = self.is_ordered();
        let load = item.load();
        if after.is_zero() {
            state.returned.push_back(item);
            drop(state);
            seat.take_back(lane, 1);
            self.waiters.notify_one();
            return;
        }
        // Counted among the delayed before it leaves the buffer, so that it is counted at every moment.
        self.delayed.budget.force(load);
        item.delayed = true;
        let wake = self.delay(&mut state, item, after);
        drop(state);
        wake.wake(self);
        seat.take_back(lane, 1);
        self.give_back(load);
    }

    fn dead_letter(&self, delivery: &mut Delivery, failure: super::super::Failure) -> DeadLetter {
        DeadLetter {
            group: self.group.clone(),
            subscription: self.name.clone(),
            attempts: delivery.attempt,
            at: failure.at,
            failures: delivery.failures_with(failure),
            message: delivery.message.clone(),
        }
    }

    /// Takes back everything a consumer holds under a lease; the attempts count, since handlers may have run.
    pub(super) fn leave(&self, seat: &Seat) {
        let mut state = lock(&self.state);
        let kept = state.keeper.take_if(|keeper| keeper.consumer == seat.id);
        while let Some(lease) = state.leases.pop_of(seat.id) {
            self.return_lease(&mut state, lease);
        }
        drop(state);
        drop(kept);
        lock(&self.seats).retain(|other| other.id != seat.id || other.unsettled() > 0);
        self.wake_lanes();
        for _ in seat.lanes.iter() {
            seat.room.notify_one();
        }
    }
}

fn item_of(delivery: Delivery, uncounted: u32) -> Item {
    Item {
        attempts: delivery.attempt.saturating_sub(uncounted),
        failures: delivery.failures,
        message: delivery.message,
        delayed: false,
        owns_key: false,
    }
}
