//! Lanes that wait for messages: woken one at a time, first come first served, and never forgotten.
//!
//! A lane puts itself on the list and then looks once more; a publisher stores its message and then looks at the list.
//! Both orders are sequentially consistent, so at least one of them sees the other.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::task::Waker;

use slab::Slab;

use crate::sync::{AtomicUsize, Mutex, fence, lock};

/// A lane's place on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

#[derive(Debug, Default)]
struct Line {
    /// `None` once notified.
    wakers: Slab<Option<Waker>>,
    /// Places in the order they came; those that left meanwhile are skipped.
    order: VecDeque<usize>,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// How many places are not notified yet.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

impl Waiters {
    /// Takes a place. The caller must look once more for what it waits for before it sleeps.
    pub(super) fn enter(&self, waker: &Waker) -> Place {
        let mut line = lock(&self.line);
        let place = line.wakers.insert(Some(waker.clone()));
        line.order.push_back(place);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(line);
        fence(Ordering::SeqCst);
        Place(place)
    }

    /// Leaves a place, and says whether it was notified: then, if the caller does not look for what it was notified of,
    /// it must notify another.
    pub(super) fn leave(&self, place: Place) -> bool {
        let mut line = lock(&self.line);
        // The waker is dropped after the lock: it may be the last handle of a task, and dropping that runs foreign code.
        let waker = line.wakers.try_remove(place.0).flatten();
        let notified = waker.is_none();
        if !notified {
            line.order.retain(|other| *other != place.0);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(line);
        notified
    }

    /// Wakes the first, if anyone waits. What it is woken for must be visible before.
    pub(super) fn notify_one(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.notify_first();
        }
    }

    /// Wakes everyone.
    pub(super) fn notify_all(&self) {
        fence(Ordering::SeqCst);
        while self.waiting.load(Ordering::SeqCst) > 0 {
            self.notify_first();
        }
    }

    #[cold]
    fn notify_first(&self) {
        let mut line = lock(&self.line);
        let waker = line.order.pop_front().and_then(|place| line.wakers.get_mut(place).and_then(Option::take));
        if waker.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(line);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize as Count;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(Count);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_first_is_woken_once_and_a_place_can_be_used_again() {
        let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let waiters = Waiters::default();
        let a = waiters.enter(&first.clone().into());
        let b = waiters.enter(&second.clone().into());
        waiters.notify_one();
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (1, 0));
        assert!(waiters.leave(a) && !waiters.leave(b));
        waiters.notify_one();
        let c = waiters.enter(&second.clone().into());
        waiters.notify_all();
        assert_eq!(second.0.load(Ordering::SeqCst), 1, "a notification is not kept for later");
        assert!(waiters.leave(c));
    }
}

#[cfg(all(test, abe_loom))]
mod loom_tests {
    use loom::future::block_on;
    use loom::sync::Arc;

    use super::*;

    /// What a lane does: look, take a place, look again, sleep.
    async fn take(waiters: &Waiters, messages: &AtomicUsize) {
        let mut place = None;
        std::future::poll_fn(|cx| {
            if let Some(place) = place.take() {
                waiters.leave(place);
            }
            let look = || messages.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok();
            if look() {
                return std::task::Poll::Ready(());
            }
            let entered = waiters.enter(cx.waker());
            if look() {
                // It may have been woken for another message than the one it found.
                if waiters.leave(entered) {
                    waiters.notify_one();
                }
                return std::task::Poll::Ready(());
            }
            place = Some(entered);
            std::task::Poll::Pending
        })
        .await;
    }

    #[test]
    fn loom_a_push_is_never_missed_by_a_lane_that_parks() {
        loom::model(|| {
            let shared = Arc::new((Waiters::default(), AtomicUsize::new(0)));
            let lane = {
                let shared = shared.clone();
                loom::thread::spawn(move || block_on(take(&shared.0, &shared.1)))
            };
            shared.1.fetch_add(1, Ordering::Release);
            shared.0.notify_one();
            lane.join().unwrap();
        });
    }

    #[test]
    fn loom_two_lanes_get_two_messages() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Arc::new((Waiters::default(), AtomicUsize::new(0)));
            let lane = {
                let shared = shared.clone();
                loom::thread::spawn(move || block_on(take(&shared.0, &shared.1)))
            };
            let publisher = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    for _ in 0..2 {
                        shared.1.fetch_add(1, Ordering::Release);
                        shared.0.notify_one();
                    }
                })
            };
            block_on(take(&shared.0, &shared.1));
            publisher.join().unwrap();
            lane.join().unwrap();
        });
    }
}
