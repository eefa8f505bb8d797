//! Where publishers come in: the budget, and the line of those who wait for room, first come first served.
//!
//! Whoever gives room back hands it to the first in line at once, so that nobody who comes later takes it, and nobody
//! has to be woken to find out that it was not meant.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use slab::Slab;

use super::budget::{Budget, Load};
use crate::sync::{AtomicUsize, Mutex, fence, lock};

/// What a publisher wants: all of it, or at least its first message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) all: Load,
    pub(super) first: Load,
}

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(usize);

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The load is taken for the caller.
    Granted(Load),
    /// There is room for nobody: the publisher is part of a cycle, and the queue's reserve is used up.
    Refused,
    /// The broker was closed.
    Closed,
}

#[derive(Debug)]
struct Waiter {
    ask: Ask,
    waker: Waker,
    entry: Option<Entry>,
}

#[derive(Debug, Default)]
struct Line {
    waiters: Slab<Waiter>,
    order: VecDeque<usize>,
    closed: bool,
}

/// The door of a queue, or of its delayed messages.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) budget: Budget,
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

impl Door {
    pub(super) fn new(limit: Load) -> Self {
        Self { budget: Budget::new(limit), waiting: AtomicUsize::new(0), line: Mutex::default() }
    }

    /// Takes room for the whole load, unless there is none or others wait for it.
    pub(super) fn try_enter(&self, load: Load) -> bool {
        if crate::mutant::is("no-backpressure") {
            return true;
        }
        self.waiting.load(Ordering::Relaxed) == 0 && self.budget.try_take(load)
    }

    /// Gets into the line. With room at once, or after `close`, the ticket is settled already: ask [`Door::poll`].
    pub(super) fn join(&self, ask: Ask, waker: &Waker) -> Ticket {
        let mut line = lock(&self.line);
        let entry = line.closed.then_some(Entry::Closed);
        let ticket = line.waiters.insert(Waiter { ask, waker: waker.clone(), entry });
        if entry.is_none() {
            line.order.push_back(ticket);
            // From here on nobody passes by, and who gives back looks at the line.
            self.waiting.fetch_add(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            drop(line);
            self.serve();
        }
        Ticket(ticket)
    }

    /// What came of a ticket; once it answers the ticket is void.
    pub(super) fn poll(&self, ticket: Ticket, waker: &Waker) -> Poll<Entry> {
        let mut line = lock(&self.line);
        let Some(waiter) = line.waiters.get_mut(ticket.0) else { return Poll::Ready(Entry::Closed) };
        if let Some(entry) = waiter.entry {
            let spent = line.waiters.try_remove(ticket.0);
            drop(line);
            drop(spent);
            return Poll::Ready(entry);
        }
        let old = (!waiter.waker.will_wake(waker)).then(|| std::mem::replace(&mut waiter.waker, waker.clone()));
        drop(line);
        drop(old);
        Poll::Pending
    }

    /// Leaves the line; what was granted meanwhile goes to the next.
    pub(super) fn leave(&self, ticket: Ticket) {
        let mut line = lock(&self.line);
        let Some(waiter) = line.waiters.try_remove(ticket.0) else { return };
        if waiter.entry.is_none() {
            line.order.retain(|other| *other != ticket.0);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(line);
        match waiter.entry {
            Some(Entry::Granted(load)) => {
                self.give(load);
            }
            // The next may want less than this one did.
            None => self.serve(),
            Some(Entry::Refused | Entry::Closed) => {}
        }
    }

    /// Gives room back, and answers what is left in use.
    pub(super) fn give(&self, load: Load) -> Load {
        let left = self.budget.give(load);
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.serve();
        }
        left
    }

    /// Lets a ticket in although there is no room, within the reserve; refuses it beyond. Answers whether it is let in, and
    /// whom to wake; `None` when it does not wait any more.
    pub(super) fn admit(&self, ticket: Ticket, extra: u64) -> Option<(bool, Waker)> {
        let mut line = lock(&self.line);
        let waiter = line.waiters.get_mut(ticket.0).filter(|waiter| waiter.entry.is_none())?;
        let load = waiter.ask.first;
        let admitted = self.budget.try_overdraw(load, extra);
        waiter.entry = Some(if admitted { Entry::Granted(load) } else { Entry::Refused });
        let waker = waiter.waker.clone();
        line.order.retain(|other| *other != ticket.0);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some((admitted, waker))
    }

    /// Lets in whom there is room for, after the bound was raised.
    pub(super) fn serve(&self) {
        loop {
            let mut line = lock(&self.line);
            let Some(waker) = self.serve_first(&mut line) else { return };
            drop(line);
            waker.wake();
        }
    }

    /// Sends everyone away, now and later.
    pub(super) fn close(&self) {
        loop {
            let mut line = lock(&self.line);
            line.closed = true;
            let Some(first) = line.order.pop_front() else { return };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let waker = line.waiters.get_mut(first).map(|waiter| {
                waiter.entry = Some(Entry::Closed);
                waiter.waker.clone()
            });
            drop(line);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Grants the first in line what it wants, or its first message, and answers whom to wake.
    fn serve_first(&self, line: &mut Line) -> Option<Waker> {
        let first = *line.order.front()?;
        let waiter = line.waiters.get_mut(first)?;
        let load = if self.budget.try_take(waiter.ask.all) {
            waiter.ask.all
        } else if waiter.ask.all != waiter.ask.first && self.budget.try_take(waiter.ask.first) {
            waiter.ask.first
        } else {
            return None;
        };
        waiter.entry = Some(Entry::Granted(load));
        let waker = waiter.waker.clone();
        line.order.pop_front();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(waker)
    }
}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use super::*;

    fn load(messages: u64) -> Load {
        Load { messages, bytes: messages }
    }

    fn ask(messages: u64) -> Ask {
        Ask { all: load(messages), first: load(1) }
    }

    fn door() -> Door {
        Door::new(Load { messages: 2, bytes: 100 })
    }

    #[test]
    fn room_goes_to_the_first_in_line_and_nobody_passes_by() {
        let (door, waker) = (door(), Waker::noop());
        assert!(door.try_enter(load(2)));
        let (a, b) = (door.join(ask(1), waker), door.join(ask(2), waker));
        door.give(load(1));
        assert_eq!(door.poll(a, waker), Poll::Ready(Entry::Granted(load(1))));
        assert!(!door.try_enter(load(1)) && door.poll(b, waker).is_pending());
        door.give(load(1));
        assert_eq!(door.poll(b, waker), Poll::Ready(Entry::Granted(load(1))), "a chunk enters in parts");
        assert_eq!(door.budget.used(), load(2));
    }

    #[test]
    fn who_leaves_gives_its_room_to_the_next() {
        let (door, waker) = (door(), Waker::noop());
        assert!(door.try_enter(load(2)));
        let (a, b) = (door.join(ask(1), waker), door.join(ask(1), waker));
        door.give(load(1));
        door.leave(a);
        assert_eq!(door.poll(b, waker), Poll::Ready(Entry::Granted(load(1))));
    }

    #[test]
    fn a_close_reaches_those_in_line_and_those_to_come() {
        let (door, waker) = (door(), Waker::noop());
        assert!(door.try_enter(load(2)));
        let a = door.join(ask(1), waker);
        door.close();
        assert_eq!(door.poll(a, waker), Poll::Ready(Entry::Closed));
        assert_eq!(door.poll(door.join(ask(1), waker), waker), Poll::Ready(Entry::Closed));
    }

    #[test]
    fn the_reserve_is_as_large_as_the_bound() {
        let (door, waker) = (door(), Waker::noop());
        assert!(door.try_enter(load(2)));
        for _ in 0..2 {
            let ticket = door.join(ask(1), waker);
            assert!(door.admit(ticket, 0).unwrap().0);
            assert_eq!(door.poll(ticket, waker), Poll::Ready(Entry::Granted(load(1))));
        }
        let ticket = door.join(ask(1), waker);
        assert!(!door.admit(ticket, 0).unwrap().0);
        assert_eq!(door.poll(ticket, waker), Poll::Ready(Entry::Refused));
    }
}

#[cfg(all(test, abe_loom))]
mod loom_tests {
    use loom::future::block_on;
    use loom::sync::Arc;

    use super::*;

    const ONE: Load = Load { messages: 1, bytes: 1 };

    async fn enter(door: &Door) {
        if door.try_enter(ONE) {
            return;
        }
        let mut ticket = None;
        std::future::poll_fn(|cx| {
            let ticket = *ticket.get_or_insert_with(|| door.join(Ask { all: ONE, first: ONE }, cx.waker()));
            door.poll(ticket, cx.waker())
        })
        .await;
    }

    #[test]
    fn loom_a_publisher_that_waits_gets_the_room_given_back() {
        loom::model(|| {
            let door = Arc::new(Door::new(ONE));
            assert!(door.try_enter(ONE));
            let publisher = {
                let door = door.clone();
                loom::thread::spawn(move || block_on(enter(&door)))
            };
            door.give(ONE);
            publisher.join().unwrap();
            assert_eq!(door.budget.used(), ONE);
        });
    }

    #[test]
    fn loom_a_grant_to_one_who_leaves_is_not_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let door = Arc::new(Door::new(ONE));
            assert!(door.try_enter(ONE));
            let quitter = {
                let door = door.clone();
                loom::thread::spawn(move || {
                    let ticket = door.join(Ask { all: ONE, first: ONE }, Waker::noop());
                    door.leave(ticket);
                })
            };
            let publisher = {
                let door = door.clone();
                loom::thread::spawn(move || block_on(enter(&door)))
            };
            door.give(ONE);
            quitter.join().unwrap();
            publisher.join().unwrap();
            assert_eq!(door.budget.used(), ONE);
        });
    }
}
