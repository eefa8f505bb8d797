//! Which subscriptions take a topic: found without a lock, worked out on the first publish to a topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;

use super::queue::Queue;
use crate::sync::{Mutex, lock};
use crate::topic::{Topic, TopicPattern};

/// How many topics are remembered. Those beyond are worked out on every publish, so that made-up topics fill no memory.
const TOPICS_MAX: usize = 1024;

/// The queues of a topic.
pub(super) type Route = Arc<[Arc<Queue>]>;

/// The queues of topics. Declared topics are found by the address of their text, which takes no hash of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    by_text: HashMap<Topic, Route, RandomState>,
    /// A power of two, at least twice as many as there are routes in it.
    by_address: Vec<Option<(&'static str, Route)>>,
}

impl Table {
    /// The queues of a topic, if they are known.
    #[inline]
    pub(super) fn get(&self, topic: &Topic) -> Option<&Route> {
        topic.as_static().and_then(|text| self.by_address(text)).or_else(|| self.by_text.get(topic))
    }

    #[inline]
    fn by_address(&self, text: &'static str) -> Option<&Route> {
        let mut at = start_of(text);
        loop {
            // There is always a free place, so that this ends; in an empty table there is no place at all.
            let (known, route) = self.by_address.get(at & self.by_address.len().wrapping_sub(1))?.as_ref()?;
            if std::ptr::eq(*known, text) {
                return Some(route);
            }
            at += 1;
        }
    }

    /// How many topics are known.
    pub(super) fn len(&self) -> usize {
        self.by_text.len()
    }

    fn insert(&mut self, topic: Topic, route: Route) {
        if let Some(text) = topic.as_static() {
            let mut known: Vec<(&'static str, Route)> = std::mem::take(&mut self.by_address).into_iter().flatten().collect();
            known.push((text, route.clone()));
            self.by_address = vec![None; known.len().next_power_of_two() * 2];
            for entry in known {
                let places = self.by_address.len();
                let free =
                    (start_of(entry.0)..).map(|at| at & (places - 1)).find(|at| self.by_address.get(*at).is_some_and(Option::is_none));
                if let Some(place) = free.and_then(|at| self.by_address.get_mut(at)) {
                    *place = Some(entry);
                }
            }
        }
        self.by_text.insert(topic, route);
    }
}

/// Where the search for an address begins: texts stand close together, and only the product's upper half is well mixed.
#[inline]
fn start_of(text: &'static str) -> usize {
    ((text.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// All subscriptions, and what is known of topics.
#[derive(Debug, Default)]
pub(super) struct Routes {
    table: ArcSwap<Table>,
    /// Rises whenever what was known of topics is forgotten.
    epoch: AtomicU64,
    subscriptions: Mutex<Vec<(Vec<TopicPattern>, Arc<Queue>)>>,
}

impl Routes {
    /// What is known of topics.
    #[inline]
    pub(super) fn known(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Calls `with` on the queues of a topic.
    pub(super) fn with<T>(&self, topic: &Topic, with: impl FnOnce(&[Arc<Queue>]) -> T) -> T {
        if let Some(route) = self.table.load().get(topic) {
            return with(route);
        }
        with(&self.work_out(topic))
    }

    /// The queues of a topic.
    pub(super) fn of(&self, topic: &Topic) -> Route {
        let known = self.table.load().get(topic).cloned();
        known.unwrap_or_else(|| self.work_out(topic))
    }

    /// Which subscriptions there are: another number, others.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The queues of a topic, and since when.
    pub(super) fn at_present(&self, topic: &Topic) -> (u64, Route) {
        // Read before: what changes in between makes it out of date at once.
        (self.epoch(), self.of(topic))
    }

    /// All queues.
    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        lock(&self.subscriptions).iter().map(|(_, queue)| queue.clone()).collect()
    }

    /// Finds a queue or adds one, sets its topics, and forgets what was known of topics.
    pub(super) fn subscribe<T>(
        &self,
        topics: &[TopicPattern],
        is: impl Fn(&Queue) -> bool,
        make: impl FnOnce() -> Queue,
        then: impl FnOnce(&Arc<Queue>, bool) -> Result<T, crate::Error>,
    ) -> Result<T, crate::Error> {
        let mut subscriptions = lock(&self.subscriptions);
        let known = subscriptions.iter().position(|(_, queue)| is(queue));
        let at = known.unwrap_or_else(|| {
            subscriptions.push((Vec::new(), Arc::new(make())));
            subscriptions.len() - 1
        });
        let Some((patterns, queue)) = subscriptions.get_mut(at) else { return Err(crate::Error::msg("no subscription")) };
        let answer = then(queue, known.is_some())?;
        if patterns.as_slice() != topics {
            *patterns = topics.to_vec();
            // Under the lock, so that no route worked out before is stored after.
            self.table.store(Arc::default());
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        Ok(answer)
    }

    #[cold]
    fn work_out(&self, topic: &Topic) -> Route {
        let subscriptions = lock(&self.subscriptions);
        let takes = |patterns: &[TopicPattern]| patterns.iter().any(|pattern| pattern.matches(topic.as_str()));
        let route: Route = subscriptions.iter().filter(|(patterns, _)| takes(patterns)).map(|(_, queue)| queue.clone()).collect();
        let table = self.table.load();
        if table.len() < TOPICS_MAX && !table.by_text.contains_key(topic) {
            let mut table = Table::clone(&table);
            table.insert(topic.clone(), route.clone());
            self.table.store(Arc::new(table));
        }
        route
    }
}
