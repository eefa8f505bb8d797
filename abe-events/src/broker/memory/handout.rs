//! Handing out: what is due, then what was given back, then the backlog; through the gate where order is kept.

use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;

use super::super::{Delivery, Run};
use super::backlog::{Chunk, Entry};
use super::budget::Load;
use super::leases::Lease;
use super::queue::{Item, Keeper, Queue, Rest, State};
use super::seat::Seat;
use crate::message::Message;
use crate::sync::lock;

/// How many shared chunks one hand-out may use up: they are dropped after the lock, as that may drop messages.
const SPENT_MAX: usize = 8;

/// Where to: messages that need nothing kept of them into the run, if there is one; all others are deliveries.
#[derive(Debug)]
pub(super) struct Hands<'a> {
    pub(super) run: Option<&'a mut Run>,
    pub(super) deliveries: &'a mut Vec<Delivery>,
}

/// What came of a hand-out.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) count: usize,
    /// Nothing could be taken because the consumer holds as much as it may.
    pub(super) full: bool,
    /// When to look again, if this lane is the one that keeps the time.
    pub(super) look_again: Option<Instant>,
}

/// A hand-out under the lock.
struct Handing<'a> {
    queue: &'a Queue,
    seat: &'a Seat,
    state: &'a mut State,
    lane: u32,
    /// Read once, and only where time matters.
    now: Option<Instant>,
    room: usize,
    count: usize,
    into: Hands<'a>,
    /// What changes its place from delayed to unsettled.
    undelayed: Load,
    spent: [Option<Chunk>; SPENT_MAX],
    spent_count: usize,
}

impl Queue {
    /// Hands at most `max` deliveries to a lane. With `park`, when there is nothing, the lane may become the one that keeps the time.
    pub(super) fn take(&self, seat: &Seat, lane: u32, max: usize, into: Hands<'_>, park: Option<&Waker>) -> Taken {
        let mut state = lock(&self.state);
        let kept = state.keeper.take_if(|keeper| keeper.consumer == seat.id && keeper.lane == lane);
        let timed = seat.lease.is_some() || state.next_event().is_some();
        let now = timed.then(Instant::now);
        let expired = now.map_or(0, |now| self.take_back_expired(&mut state, now));
        let room = seat.room();
        let mut handing = Handing {
            queue: self,
            seat,
            state: &mut state,
            lane,
            now,
            room: room.min(max),
            count: 0,
            into,
            undelayed: Load::default(),
            spent: [const { None }; SPENT_MAX],
            spent_count: 0,
        };
        let more = handing.run();
        let (count, undelayed, spent) = (handing.count, handing.undelayed, handing.spent);
        seat.hand_out(lane, count);
        let mut taken = Taken { count, full: room == 0, look_again: None };
        let mut recruit = false;
        if let Some(at) = state.next_event().filter(|_| state.keeper.is_none()) {
            match park.filter(|_| count == 0) {
                Some(waker) => {
                    state.keeper = Some(Keeper { consumer: seat.id, lane, waker: waker.clone() });
                    taken.look_again = Some(at);
                }
                // This lane goes on to work: another one must keep the time.
                None => recruit = true,
            }
        }
        drop(state);
        drop((kept, spent));
        if undelayed.messages > 0 {
            self.delayed.give(undelayed);
        }
        if expired > 0 {
            self.wake_full_seats();
        }
        if recruit || more || expired > count {
            self.waiters.notify_one();
        }
        taken
    }

    /// A lane stops waiting: another one must keep the time.
    pub(super) fn stop_keeping(&self, seat: &Seat, lane: u32) {
        let mut state = lock(&self.state);
        let kept = state.keeper.take_if(|keeper| keeper.consumer == seat.id && keeper.lane == lane);
        drop(state);
        if kept.is_some() {
            self.waiters.notify_one();
        }
    }

    /// Takes back what was not settled in its time; the attempt counts, since a handler may have run.
    fn take_back_expired(&self, state: &mut State, now: Instant) -> usize {
        let mut count = 0;
        while let Some(lease) = state.leases.pop_expired(now) {
            self.return_lease(state, lease);
            count += 1;
        }
        count
    }

    /// Puts the item of an ended lease next in turn.
    pub(super) fn return_lease(&self, state: &mut State, lease: Lease<Item>) {
        let seat = lock(&self.seats).iter().find(|seat| seat.id == lease.consumer).cloned();
        if let Some(seat) = seat {
            seat.forget(lease.lane, 1);
        }
        state.returned.push_back(lease.item);
    }

    fn wake_full_seats(&self) {
        let seats: Vec<Arc<Seat>> = lock(&self.seats).clone();
        for seat in seats {
            seat.room.notify_one();
        }
    }
}

impl Handing<'_> {
    /// Hands out until the lane has enough or nothing is left, and says whether something is.
    fn run(&mut self) -> bool {
        while self.count < self.room {
            if self.spent_count == SPENT_MAX {
                return true;
            }
            let Some(item) = self.next_in_turn() else { break };
            self.hand_out(item);
        }
        let plain = self.seat.lease.is_none() && !self.queue.is_ordered();
        let room = if self.is_paused() { 0 } else { self.room };
        if plain && self.into.run.is_some() {
            if self.count == 0 {
                self.fill_run(room);
            }
            return self.count > 0 && self.something_is_left();
        }
        while self.count < room {
            if self.spent_count == SPENT_MAX {
                return true;
            }
            if plain {
                if !self.hand_out_plain(room - self.count) {
                    break;
                }
                continue;
            }
            let Some(message) = self.next_fresh() else { break };
            if let Some(item) = self.pass_gate(Item::fresh(message)) {
                self.hand_out(item);
            }
        }
        self.count == self.room && self.room > 0 && self.something_is_left()
    }

    /// When as much is delayed as may be, what is handed out could not be retried: only what was tried before goes on.
    fn is_paused(&self) -> bool {
        let budget = &self.queue.delayed.budget;
        budget.used().messages >= budget.limit().messages
    }

    fn something_is_left(&self) -> bool {
        let state = &*self.state;
        !state.returned.is_empty()
            || state.rest.is_some()
            || !self.queue.backlog.is_empty()
            || state.delayed.first_due().is_some_and(|due| self.now.is_some_and(|now| due <= now))
    }

    /// What comes before the backlog.
    fn next_in_turn(&mut self) -> Option<Item> {
        while let Some(item) = self.now.and_then(|now| self.state.delayed.pop_due(now)) {
            if let Some(item) = self.pass_gate(item) {
                return Some(item);
            }
        }
        self.state.returned.pop_front()
    }

    /// An item that may be handed out as far as its key is concerned.
    fn pass_gate(&mut self, mut item: Item) -> Option<Item> {
        if !self.queue.is_ordered() || item.owns_key {
            return Some(item);
        }
        let Some(key) = item.message.key().map(compact_str::CompactString::from) else { return Some(item) };
        item.owns_key = true;
        self.state.gate.enter(&key, item)
    }

    /// Hands out at most `max` messages of one entry that need nothing kept of them, moving each only once; `false` when
    /// there is no entry.
    fn hand_out_plain(&mut self, max: usize) -> bool {
        let token = self.seat.token(self.lane);
        let delivery = |message| Delivery { message, attempt: 1, token, failures: None };
        let into = &mut *self.into.deliveries;
        let before = into.len();
        match &mut self.state.rest {
            None => match self.queue.backlog.pop() {
                Some(Entry::One(message)) => into.push(delivery(message)),
                Some(entry) => self.open(entry),
                None => return false,
            },
            Some(Rest::Batch(batch)) => {
                into.extend(batch.take(max).map(delivery));
                self.drop_rest_if_empty();
            }
            Some(Rest::Chunk(chunk)) => {
                let end = chunk.end.min(chunk.next.saturating_add(max));
                let messages = chunk.messages.get(chunk.next..end).unwrap_or_default();
                into.extend(messages.iter().map(|message| delivery(message.clone())));
                chunk.next = end;
                self.drop_rest_if_empty();
            }
        }
        self.count += self.into.deliveries.len() - before;
        true
    }

    /// Hands out at most `max` messages as a run: single ones moved once, a part of what is shared by reference.
    fn fill_run(&mut self, max: usize) {
        let Some(run) = self.into.run.as_deref_mut() else { return };
        while self.count < max {
            match &mut self.state.rest {
                None => match self.queue.backlog.pop() {
                    Some(Entry::One(message)) => {
                        run.push(message);
                        self.count += 1;
                    }
                    Some(Entry::Batch(batch)) => self.state.rest = Some(Rest::Batch(batch)),
                    Some(Entry::Chunk(chunk)) => self.state.rest = Some(Rest::Chunk(chunk)),
                    None => return,
                },
                Some(Rest::Batch(batch)) => {
                    let taken = batch.len().min(max - self.count);
                    run.extend(batch.take(taken));
                    self.count += taken;
                    if batch.len() == 0 {
                        self.state.rest = None;
                    }
                }
                // A run is either the lane's own or shared.
                Some(Rest::Chunk(_)) if self.count > 0 => return,
                Some(Rest::Chunk(chunk)) => {
                    let range = chunk.next..chunk.end.min(chunk.next.saturating_add(max));
                    self.count = range.len();
                    chunk.next = range.end;
                    if chunk.next < chunk.end {
                        run.share(chunk.messages.clone(), range);
                    } else if let Some(Rest::Chunk(chunk)) = self.state.rest.take() {
                        run.share(chunk.messages, range);
                    }
                    return;
                }
            }
        }
    }

    /// The next message that was not tried before.
    fn next_fresh(&mut self) -> Option<Message> {
        loop {
            let message = match &mut self.state.rest {
                Some(Rest::Batch(batch)) => batch.next(),
                Some(Rest::Chunk(chunk)) => {
                    chunk.next += 1;
                    chunk.messages.get(chunk.next - 1).cloned()
                }
                None => match self.queue.backlog.pop()? {
                    Entry::One(message) => return Some(message),
                    entry => {
                        self.open(entry);
                        continue;
                    }
                },
            };
            self.drop_rest_if_empty();
            if message.is_some() {
                return message;
            }
        }
    }

    /// Makes an entry of several messages the one that is handed out from.
    fn open(&mut self, entry: Entry) {
        match entry {
            Entry::One(message) => self.state.returned.push_back(Item::fresh(message)),
            Entry::Batch(batch) => self.state.rest = Some(Rest::Batch(batch)),
            Entry::Chunk(chunk) => self.state.rest = Some(Rest::Chunk(chunk)),
        }
    }

    /// Puts an entry aside that is used up. A shared one is dropped after the lock: its messages may go with it.
    fn drop_rest_if_empty(&mut self) {
        let empty = match &self.state.rest {
            Some(Rest::Batch(batch)) => batch.len() == 0,
            Some(Rest::Chunk(chunk)) => chunk.next >= chunk.end,
            None => false,
        };
        if !empty {
            return;
        }
        if let Some(Rest::Chunk(chunk)) = self.state.rest.take()
            && let Some(place) = self.spent.get_mut(self.spent_count)
        {
            *place = Some(chunk);
            self.spent_count += 1;
        }
    }

    fn hand_out(&mut self, mut item: Item) {
        let load = item.load();
        if std::mem::take(&mut item.delayed) {
            // Room in the buffer before it leaves the delayed, so that it is counted at every moment.
            self.queue.buffer.budget.force(load);
            self.undelayed.add(load);
        }
        item.attempts = item.attempts.saturating_add(1);
        let delivery = match self.seat.lease.zip(self.now) {
            None => Delivery { token: self.seat.token(self.lane), attempt: item.attempts, failures: item.failures, message: item.message },
            Some((lease, now)) => {
                let (message, attempt, failures) = (item.message.clone(), item.attempts, item.failures.clone());
                let until = now.checked_add(lease).unwrap_or(now);
                let token = self.state.leases.give(Lease { item, consumer: self.seat.id, lane: self.lane, until });
                Delivery { message, attempt, token, failures }
            }
        };
        self.into.deliveries.push(delivery);
        self.count += 1;
    }
}
