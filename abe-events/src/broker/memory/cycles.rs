//! Cycles of publishers: handlers that wait for each other's queues, so that none of them ever goes on.
//!
//! A handler that publishes into a full queue holds its lane while it waits. If the room it waits for can only come from
//! lanes that wait in the same way, nobody moves again. Whenever a lane is about to wait, and whenever one parks, the lanes
//! that can still go on are worked out (the least set closed under "it runs", "it is idle and has something to take",
//! "it waits for a queue whose lanes can go on"); a publish that waits for none of them is let in beyond the bound.
//! Why so, and not by a timeout: `docs/decisions/0002-publish-cycles.md`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::super::Origin;
use super::door::{Door, Ticket};
use super::queue::Queue;
use super::routes::Routes;
use super::seat::Seat;
use crate::sync::{AtomicUsize, Mutex, fence, lock};

/// The lanes that wait within a publish.
#[derive(Debug)]
pub(super) struct Cycles {
    routes: Arc<Routes>,
    waiting: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    next_number: u64,
    blocked: Vec<Blocked>,
}

/// A publish that waits, made by a lane's handler.
#[derive(Debug)]
struct Blocked {
    number: u64,
    origin: Origin,
    queue: Arc<Queue>,
    delayed: bool,
    ticket: Ticket,
    /// Let in or refused: the lane goes on.
    released: bool,
    /// The cycle, when it was refused.
    path: Option<String>,
}

/// An entry in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockedId(u64);

/// What a lane does.
enum Doing<'a> {
    Runs,
    Idle,
    Waits(Vec<&'a Blocked>),
}

/// The queues and their consumers, as they are while lanes are looked at.
type Sight = Vec<(Arc<Queue>, Vec<Arc<Seat>>)>;

impl Cycles {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self { routes, waiting: AtomicUsize::new(0), list: Mutex::default() }
    }

    /// A lane's publish waits with a ticket.
    pub(super) fn block(&self, origin: Origin, queue: &Arc<Queue>, delayed: bool, ticket: Ticket) -> BlockedId {
        let mut list = lock(&self.list);
        let number = list.next_number;
        list.next_number += 1;
        list.blocked.push(Blocked { number, origin, queue: queue.clone(), delayed, ticket, released: false, path: None });
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        drop(list);
        self.release();
        BlockedId(number)
    }

    /// The publish does not wait any more. The answer is the cycle it was refused for.
    pub(super) fn unblock(&self, id: BlockedId) -> Option<String> {
        let mut list = lock(&self.list);
        let at = list.blocked.iter().position(|blocked| blocked.number == id.0)?;
        let blocked = list.blocked.swap_remove(at);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(list);
        // The same handler may wait for another queue at the same time, and now only for that.
        self.lane_parked();
        blocked.path
    }

    /// A lane has parked or gone, so that it will not go on by itself.
    pub(super) fn lane_parked(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.release();
        }
    }

    /// Lets in, one after another, publishes that nobody can make room for.
    fn release(&self) {
        let mut woken: Vec<Waker> = Vec::new();
        let mut list = lock(&self.list);
        let sight: Sight = self.routes.queues().into_iter().map(|queue| (queue.clone(), lock(&queue.seats).clone())).collect();
        while let Some(at) = stuck(&list.blocked, &sight) {
            let path = path_of(&list.blocked, at, &sight);
            let Some(blocked) = list.blocked.get_mut(at) else { break };
            blocked.released = true;
            let door = door_of(&blocked.queue, blocked.delayed);
            let lanes = sight.iter().flat_map(|(_, seats)| seats).map(|seat| seat.lanes.len() as u64).sum();
            // One that does not wait any more was let in by whoever made room.
            if let Some((admitted, waker)) = door.admit(blocked.ticket, lanes) {
                if !admitted {
                    blocked.path = Some(path);
                }
                woken.push(waker);
            }
        }
        drop(list);
        woken.into_iter().for_each(Waker::wake);
    }
}

fn door_of(queue: &Queue, delayed: bool) -> &Door {
    if delayed { &queue.delayed } else { &queue.buffer }
}

/// The first publish that waits for lanes none of which can go on.
fn stuck(blocked: &[Blocked], sight: &Sight) -> Option<usize> {
    if blocked.iter().all(|blocked| blocked.released) {
        return None;
    }
    // Grows until nothing is added: for each queue whether its buffer, and whether its delayed set, gets room again.
    let mut free = vec![(false, false); sight.len()];
    loop {
        let before = free.clone();
        for (at, (queue, seats)) in sight.iter().enumerate() {
            if free[at] != (true, true) {
                free[at] = gets_room(queue, seats, blocked, sight, &before);
            }
        }
        if free == before {
            break;
        }
    }
    blocked.iter().position(|blocked| !blocked.released && !can_wait_for(blocked, sight, &free))
}

fn can_wait_for(blocked: &Blocked, sight: &Sight, free: &[(bool, bool)]) -> bool {
    let at = sight.iter().position(|(queue, _)| Arc::ptr_eq(queue, &blocked.queue));
    at.and_then(|at| free.get(at)).is_none_or(|(buffer, delayed)| if blocked.delayed { *delayed } else { *buffer })
}

/// Whether lanes of a queue can go on and make room: in its buffer, and in its delayed set.
fn gets_room(queue: &Queue, seats: &[Arc<Seat>], blocked: &[Blocked], sight: &Sight, free: &[(bool, bool)]) -> (bool, bool) {
    let open = seats.iter().filter(|seat| !seat.is_closed());
    let mut room = (false, false);
    let mut any = false;
    for seat in open {
        any = true;
        // Read before the lanes are looked at: one that takes something stops being idle first.
        let something = seat.room() > 0 && queue.has_something_to_take();
        for (lane, state) in seat.lanes.iter().enumerate() {
            let origin = Origin { consumer: seat.id, lane: lane as u32 };
            match doing(origin, state.idle.load(Ordering::SeqCst), blocked) {
                Doing::Runs => return (true, true),
                // What is delayed becomes due without anybody's doing, and needs only a lane.
                Doing::Idle => room = (room.0 || something || state.holds_something(), true),
                Doing::Waits(publishes) => {
                    if publishes.iter().any(|publish| can_wait_for(publish, sight, free)) {
                        return (true, true);
                    }
                }
            }
        }
    }
    // Without a consumer the room comes from one that is still to be opened: not a matter of cycles.
    if any { room } else { (true, true) }
}

fn doing(origin: Origin, idle: bool, blocked: &[Blocked]) -> Doing<'_> {
    if idle {
        return Doing::Idle;
    }
    let publishes: Vec<&Blocked> = blocked.iter().filter(|blocked| blocked.origin == origin && !blocked.released).collect();
    if publishes.is_empty() { Doing::Runs } else { Doing::Waits(publishes) }
}

/// The cycle a publish is part of, as the names of subscriptions.
fn path_of(blocked: &[Blocked], at: usize, sight: &Sight) -> String {
    let owner =
        |origin: Origin| sight.iter().find(|(_, seats)| seats.iter().any(|seat| seat.id == origin.consumer)).map(|(queue, _)| queue);
    let Some(first) = blocked.get(at) else { return String::new() };
    let mut names: Vec<&str> = owner(first.origin).map(|queue| queue.name.as_str()).into_iter().collect();
    let mut next = &first.queue;
    loop {
        let name = next.name.as_str();
        let closes = names.contains(&name);
        names.push(name);
        if closes {
            return names.join(" -> ");
        }
        let waits = blocked.iter().find(|other| owner(other.origin).is_some_and(|queue| Arc::ptr_eq(queue, next)));
        let Some(waits) = waits else { return names.join(" -> ") };
        next = &waits.queue;
    }
}
