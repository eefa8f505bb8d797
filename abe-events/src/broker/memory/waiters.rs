//! Lanes that wait for messages: woken one at a time, first come first served, and never forgotten.
//!
//! A lane puts itself on the list and then looks once more; a publisher stores its message and then looks at the list.
//! Both orders are sequentially consistent, so at least one of them sees the other.
//!
//! A lane that was woken is on its way until it leaves its place, and only then looks. As long as those on their way can take
//! all there is, a burst needs nobody else: eight lanes woken for eight messages that one of them would have taken cost
//! eight times as much.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::task::Waker;

use slab::Slab;

use crate::sync::{AtomicUsize, Mutex, fence, lock};

/// A lane's place on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

#[derive(Debug)]
struct Waiter {
    /// `None` once notified.
    waker: Option<Waker>,
    /// How much it takes at once.
    takes: usize,
}

#[derive(Debug, Default)]
struct Line {
    places: Slab<Waiter>,
    /// Places in the order they came; those that left meanwhile are skipped.
    order: VecDeque<usize>,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// How many places are not notified yet.
    waiting: AtomicUsize,
    /// How much those take who were notified and have not left.
    coming: AtomicUsize,
    line: Mutex<Line>,
}

impl Waiters {
    /// Takes a place, for one who takes so much at once. The caller must look once more for what it waits for before it sleeps.
    pub(super) fn enter(&self, waker: &Waker, takes: usize) -> Place {
        let mut line = lock(&self.line);
        let place = line.places.insert(Waiter { waker: Some(waker.clone()), takes });
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
        let Some(Waiter { waker, takes }) = line.places.try_remove(place.0) else { return true };
        let notified = waker.is_none();
        if notified {
            self.coming.fetch_sub(takes, Ordering::SeqCst);
        } else {
            line.order.retain(|other| *other != place.0);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(line);
        // What was counted on it from now on is announced to somebody else: whoever looks now sees what was before.
        fence(Ordering::SeqCst);
        // The waker is dropped after the lock: it may be the last handle of a task, and dropping that runs foreign code.
        drop(waker);
        notified
    }

    /// Wakes the first, if anyone waits. What it is woken for must be visible before.
    pub(super) fn notify_one(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.notify_first();
        }
    }

    /// The same, unless those who are on their way take all there is.
    #[inline]
    pub(super) fn notify_for(&self, there_is: impl FnOnce() -> usize) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let coming = self.coming.load(Ordering::SeqCst);
        if coming == 0 || there_is() > coming {
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
        let waker = line.order.pop_front().and_then(|place| {
            let waiter = line.places.get_mut(place)?;
            self.coming.fetch_add(waiter.takes, Ordering::SeqCst);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            waiter.waker.take()
        });
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
        let a = waiters.enter(&first.clone().into(), 1);
        let b = waiters.enter(&second.clone().into(), 1);
        waiters.notify_one();
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (1, 0));
        assert!(waiters.leave(a) && !waiters.leave(b));
        waiters.notify_one();
        let c = waiters.enter(&second.clone().into(), 1);
        waiters.notify_all();
        assert_eq!(second.0.load(Ordering::SeqCst), 1, "a notification is not kept for later");
        assert!(waiters.leave(c));
    }

    #[test]
    fn nobody_else_is_woken_for_what_one_on_its_way_takes() {
        let woken = Arc::new(Woken::default());
        let count = || woken.0.load(Ordering::SeqCst);
        let waiters = Waiters::default();
        let [a, b, c] = [4, 2, 2].map(|takes| waiters.enter(&woken.clone().into(), takes));
        for there_is in 1..=4 {
            waiters.notify_for(|| there_is);
            assert_eq!(count(), 1, "the first takes four");
        }
        waiters.notify_for(|| 5);
        waiters.notify_for(|| 6);
        assert_eq!(count(), 2, "the second takes two more");
        assert!(waiters.leave(a));
        waiters.notify_for(|| 2);
        assert_eq!(count(), 2, "the second is on its way still");
        waiters.notify_for(|| 3);
        assert_eq!(count(), 3, "who has left may have looked before");
        assert!(waiters.leave(b) && waiters.leave(c));
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
            let entered = waiters.enter(cx.waker(), 1);
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
            shared.0.notify_for(|| shared.1.load(Ordering::SeqCst));
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
                        shared.0.notify_for(|| shared.1.load(Ordering::SeqCst));
                    }
                })
            };
            block_on(take(&shared.0, &shared.1));
            publisher.join().unwrap();
            lane.join().unwrap();
        });
    }
}
