//! What waits to be handed out for the first time: a ring without locks, and a list behind it for what the ring cannot hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_queue::ArrayQueue;

use crate::message::Message;
use crate::sync::{AtomicUsize, Mutex, lock};

/// How many entries a ring holds at most; a longer backlog stands in the list, whose memory grows with it.
const RING_MAX: usize = 1024;

/// What one push stores.
#[derive(Debug)]
pub(super) enum Entry {
    One(Message),
    /// A whole batch for one subscription.
    Batch(std::vec::IntoIter<Message>),
    /// A part of a batch that several subscriptions share.
    Chunk(Chunk),
}

/// A range of shared messages.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) messages: Arc<Vec<Message>>,
    pub(super) next: usize,
    pub(super) end: usize,
}

/// The backlog. Order holds for each publisher: once the list holds something, everything goes there until it is empty.
#[derive(Debug)]
pub(super) struct Backlog {
    ring: ArrayQueue<Entry>,
    /// How many entries the list holds.
    listed: AtomicUsize,
    list: Mutex<VecDeque<Entry>>,
}

impl Backlog {
    pub(super) fn new(bound: usize) -> Self {
        Self { ring: ArrayQueue::new(bound.clamp(1, RING_MAX)), listed: AtomicUsize::new(0), list: Mutex::default() }
    }

    /// Stores an entry; the budget is what bounds how many there are.
    #[inline(always)]
    pub(super) fn push(&self, entry: Entry) {
        if self.listed.load(Ordering::SeqCst) == 0 {
            if let Err(entry) = self.ring.push(entry) {
                self.push_listed(entry);
            }
        } else {
            self.push_listed(entry);
        }
    }

    #[cold]
    fn push_listed(&self, entry: Entry) {
        let mut list = lock(&self.list);
        list.push_back(entry);
        self.listed.store(list.len(), Ordering::SeqCst);
    }

    /// Takes the oldest entry. Called by one lane at a time.
    #[inline(always)]
    pub(super) fn pop(&self) -> Option<Entry> {
        let entry = self.ring.pop();
        if entry.is_none() && self.listed.load(Ordering::SeqCst) != 0 { self.pop_listed() } else { entry }
    }

    #[cold]
    fn pop_listed(&self) -> Option<Entry> {
        let mut list = lock(&self.list);
        // A publisher may have filled the ring and gone on in the list since the ring was seen empty.
        if let Some(entry) = self.ring.pop() {
            return Some(entry);
        }
        let entry = list.pop_front();
        self.listed.store(list.len(), Ordering::SeqCst);
        entry
    }

    /// How many entries there are, about.
    pub(super) fn len(&self) -> usize {
        self.ring.len() + self.listed.load(Ordering::SeqCst)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.listed.load(Ordering::SeqCst) == 0
    }
}

#[cfg(all(test, not(abe_loom)))]
#[expect(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]
mod tests {
    use super::*;
    use crate::message::Payload;
    use crate::topic::Topic;

    fn message(number: usize) -> Message {
        Message::new(Topic::from_static("t"), 1, Payload::from_bytes(number.to_string()))
    }

    fn number(entry: Entry) -> usize {
        let Entry::One(message) = entry else { panic!("one") };
        String::from_utf8(message.payload().to_bytes().unwrap().to_vec()).unwrap().parse().unwrap()
    }

    #[test]
    fn order_holds_through_the_list_and_back_to_the_ring() {
        let backlog = Backlog::new(2);
        let mut expected = 0;
        let mut next = 0;
        for round in [5, 1, 0, 3, 7] {
            for _ in 0..round {
                backlog.push(Entry::One(message(next)));
                next += 1;
            }
            for _ in 0..4 {
                if let Some(entry) = backlog.pop() {
                    assert_eq!(number(entry), expected);
                    expected += 1;
                }
            }
        }
        while let Some(entry) = backlog.pop() {
            assert_eq!(number(entry), expected);
            expected += 1;
        }
        assert!(expected == next && backlog.is_empty());
    }

    #[test]
    fn each_publisher_keeps_its_order_while_the_list_comes_and_goes() {
        let backlog = Arc::new(Backlog::new(1));
        let per_publisher = if cfg!(miri) { 50 } else { 200_000 };
        let publishers: Vec<_> = (0..3)
            .map(|publisher| {
                let backlog = backlog.clone();
                std::thread::spawn(move || {
                    for number in 0..per_publisher {
                        backlog.push(Entry::One(message(publisher * 1_000_000 + number)));
                    }
                })
            })
            .collect();
        let mut next = [0; 3];
        let mut taken = 0;
        while taken < 3 * per_publisher {
            let Some(entry) = backlog.pop() else {
                std::thread::yield_now();
                continue;
            };
            let number = number(entry);
            assert_eq!(number % 1_000_000, next[number / 1_000_000]);
            next[number / 1_000_000] += 1;
            taken += 1;
        }
        for publisher in publishers {
            publisher.join().unwrap();
        }
    }
}
