//! Which subscriptions take a topic: found without a lock, worked out on the first publish to a topic.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;

use super::queue::Queue;
use crate::sync::{Mutex, lock};
use crate::topic::{Topic, TopicPattern};

/// How many topics are remembered. Those beyond are worked out on every publish, so that made-up topics fill no memory.
const TOPICS_MAX: usize = 1024;

/// The queues of a topic.
pub(super) type Route = Arc<[Arc<Queue>]>;

/// The queues of topics.
pub(super) type Table = HashMap<Topic, Route, RandomState>;

/// All subscriptions, and what is known of topics.
#[derive(Debug, Default)]
pub(super) struct Routes {
    table: ArcSwap<Table>,
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
        }
        Ok(answer)
    }

    #[cold]
    fn work_out(&self, topic: &Topic) -> Route {
        let subscriptions = lock(&self.subscriptions);
        let takes = |patterns: &[TopicPattern]| patterns.iter().any(|pattern| pattern.matches(topic.as_str()));
        let route: Route = subscriptions.iter().filter(|(patterns, _)| takes(patterns)).map(|(_, queue)| queue.clone()).collect();
        let table = self.table.load();
        if table.len() < TOPICS_MAX && !table.contains_key(topic) {
            let mut table = Table::clone(&table);
            table.insert(topic.clone(), route.clone());
            self.table.store(Arc::new(table));
        }
        route
    }
}
