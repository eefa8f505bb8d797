//! The memory broker: bounded queues within the process, and the reference of what a broker promises.
//!
//! Each subscription has a queue: a ring without locks that publishers push into after they took room
//! at its door, and a small state under a lock, touched once per batch, for what is not simply next:
//! returned and delayed messages, keys that are busy, leases. Nothing survives the process; everything else holds.

mod backlog;
mod budget;
mod consumer;
mod cycles;
mod delayed;
mod direct;
mod door;
mod gate;
mod handout;
mod leases;
mod letters;
mod publish;
mod queue;
mod quiet;
mod receive;
mod routes;
mod seat;
mod settle;
mod waiters;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use self::backlog::Entry;
use self::budget::Load;
use self::consumer::{Inner, MemoryConsumer};
use self::cycles::Cycles;
use self::direct::Direct;
use self::letters::Letters;
use self::queue::Queue;
use self::quiet::Quiet;
use self::routes::Routes;
use self::seat::Seat;
use self::waiting::Singles;
use super::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetter, DeadLetterFilter, DeadLetters, Durability, Messages, Outgoing,
    PublishFailure, Published, Route, StartPosition, SubscriptionSpec,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::PAYLOAD_BYTES_MAX;
use crate::policy::WhenFull;
use crate::sync::lock;
use crate::topic::Topic;

/// A broker within the process: nothing to install, nothing survives the process, every other promise holds.
///
/// Share it by `Arc` between the runtimes of a process; subscriptions outlive their consumers.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use abe_events::broker::memory::MemoryBroker;
/// use abe_events::broker::{Broker, Messages, Outgoing, SubscriptionSpec};
/// use abe_events::{Message, Name, Payload, Topic, TopicPattern};
///
/// let broker = MemoryBroker::new();
/// let topics = vec![TopicPattern::new("order.*").unwrap()];
/// let spec = SubscriptionSpec::new(Name::new("shop").unwrap(), Name::new("billing").unwrap(), topics);
/// let consumer = broker.subscribe(&spec).await.unwrap();
///
/// let message = Message::new(Topic::new("order.created").unwrap(), 1, Payload::from_bytes("{}"));
/// broker.publish(Outgoing { messages: Messages::One(message), delay: Default::default(), origin: None }).await.unwrap();
/// assert_eq!(consumer.receive(0, 10, Vec::new()).await.unwrap().len(), 1);
/// # });
/// ```
pub struct MemoryBroker {
    capabilities: Capabilities,
    delayed: Load,
    routes: Arc<Routes>,
    letters: Arc<Letters>,
    cycles: Arc<Cycles>,
    singles: Arc<Singles>,
    quiet: Arc<Quiet>,
    closed: AtomicBool,
}

/// The bounds of a [`MemoryBroker`] that belong to no subscription.
///
/// ```
/// use abe_events::broker::memory::MemoryBroker;
///
/// let broker = MemoryBroker::builder().dead_letters_max(100).delayed_max(1_000).build();
/// ```
#[derive(Debug, Clone)]
pub struct MemoryBrokerBuilder {
    dead_letters_max: usize,
    delayed_max: usize,
    delayed_bytes_max: usize,
}

impl MemoryBrokerBuilder {
    /// How many dead letters are kept. Default 10,000. When they are all taken, a message that fails for good stays with
    /// its subscription.
    #[must_use]
    pub fn dead_letters_max(mut self, count: usize) -> Self {
        self.dead_letters_max = count;
        self
    }

    /// How many messages of a subscription wait for their time. Default 65,536, at least 1. When there are so many,
    /// delayed publishes wait (or fail, or are shed), and nothing is handed out that was not tried before.
    #[must_use]
    pub fn delayed_max(mut self, count: usize) -> Self {
        self.delayed_max = count;
        self
    }

    /// How many bytes of a subscription's messages wait for their time. Default 256 MiB.
    #[must_use]
    pub fn delayed_bytes_max(mut self, bytes: usize) -> Self {
        self.delayed_bytes_max = bytes;
        self
    }

    /// The broker.
    pub fn build(self) -> MemoryBroker {
        let routes = Arc::new(Routes::default());
        let cycles = Arc::new(Cycles::new(routes.clone()));
        MemoryBroker {
            capabilities: CAPABILITIES,
            delayed: Load { messages: self.delayed_max as u64, bytes: self.delayed_bytes_max as u64 },
            letters: Arc::new(Letters::new(self.dead_letters_max)),
            singles: Arc::new(Singles::new(cycles.clone())),
            cycles,
            routes,
            quiet: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }
}

const CAPABILITIES: Capabilities = Capabilities {
    name: "memory",
    durability: Durability::Process,
    wildcards: true,
    ordered: true,
    atomic_publish: false,
    fencing: true,
    leases_optional: true,
    durable_delays: false,
    start: &[StartPosition::Latest],
    competing_consumers: true,
    bounded_queues: true,
    payload_bytes_max: PAYLOAD_BYTES_MAX,
};

impl MemoryBroker {
    /// A broker with the default bounds.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A broker with bounds of its own.
    pub fn builder() -> MemoryBrokerBuilder {
        MemoryBrokerBuilder { dead_letters_max: 10_000, delayed_max: 65_536, delayed_bytes_max: 256 * 1024 * 1024 }
    }

    /// Waits until nothing waits to be handed out or is unsettled, and answers when the next delayed message becomes due,
    /// if there is one.
    #[allow(dead_code, reason = "for the test kit")]
    pub(crate) async fn idle(&self) -> Option<Instant> {
        self.quiet.until(|| self.look_for_quiet()).await
    }

    fn look_for_quiet(&self) -> Option<Option<Instant>> {
        let queues = self.routes.queues();
        if queues.iter().any(|queue| queue.buffer.budget.used().messages > 0) {
            return None;
        }
        let due = queues.iter().filter_map(|queue| queue.next_due()).min();
        due.is_none_or(|due| due > Instant::now()).then_some(due)
    }

    #[cold]
    fn publish_long(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        let (delay, origin) = (outgoing.delay, outgoing.origin);
        match publish::begin(&self.routes, outgoing) {
            Ok(begun) if begun.waiting.is_empty() => Answer::ready(Ok(begun.published)),
            Ok(begun) => Answer::later(publish::finish(self.cycles.clone(), begun, delay, origin)),
            Err(failure) => Answer::ready(Err(failure)),
        }
    }

    #[inline]
    fn refuse_if_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::new(ErrorKind::Closed, "the memory broker is closed")) } else { Ok(()) }
    }

    fn open(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Consumer>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.refuse_if_closed()?;
        if spec.start != StartPosition::Latest {
            let text = "the memory broker keeps no history: a subscription starts with what is published after it was made";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let id = ConsumerId(NEXT.fetch_add(1, Ordering::Relaxed));
        let seat = Arc::new(Seat::new(id, spec.lanes, spec.unsettled_max, spec.lease));
        let queue = self.routes.subscribe(
            &spec.topics,
            |queue| queue.group == spec.group && queue.name == spec.name,
            || Queue::new(spec, self.delayed, self.quiet.clone()),
            |queue, known| {
                if known && !queue.adopt(spec) {
                    let text = format!("subscription {} is in use with `ordered = {}`", spec.name, !spec.ordered);
                    return Err(Error::new(ErrorKind::Config, text));
                }
                let mut seats = lock(&queue.seats);
                seats.retain(|other| !other.is_closed() || other.unsettled() > 0);
                seats.push(seat.clone());
                Ok(queue.clone())
            },
        )?;
        // A close that ran meanwhile may have missed the new queue.
        if self.closed.load(Ordering::SeqCst) {
            queue.close();
        }
        let inner = Inner { queue, seat, letters: self.letters.clone(), cycles: self.cycles.clone() };
        Ok(Arc::new(MemoryConsumer::new(inner)))
    }

    async fn replay_each(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let mut count = 0;
        for (number, letter) in self.letters.find(filter) {
            self.refuse_if_closed()?;
            let queues = self.routes.queues();
            let home = queues.iter().find(|queue| queue.group == letter.group && queue.name == letter.subscription);
            let Some(queue) = home else { continue };
            let room = publish::into_one(&self.cycles, queue, &letter.message).await?;
            let moved = self.letters.move_out(number, |letter| queue.backlog.push(Entry::One(letter.message.clone())));
            if moved.is_some() {
                queue.waiters.notify_one();
                count += 1;
            } else {
                queue.give_back(room);
            }
        }
        Ok(count)
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.routes.queues().iter().map(|queue| format!("{}/{}", queue.group, queue.name)).collect();
        f.debug_struct("MemoryBroker").field("subscriptions", &names).finish_non_exhaustive()
    }
}

impl Broker for MemoryBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::ready(self.open(spec))
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        if let Err(error) = self.refuse_if_closed() {
            return Answer::ready(Err(PublishFailure { stored: 0, error }));
        }
        // The usual case by the shortest way: one message, one subscription. Looked at by reference and moved once, since
        // moving a message about costs more than everything else here.
        let Messages::One(message) = &outgoing.messages else { return self.publish_long(outgoing) };
        let routes = self.routes.known();
        let only = routes.get(message.topic()).and_then(|route| if let [queue] = &**route { Some(queue) } else { None });
        let Some(queue) = only.filter(|queue| outgoing.delay.is_zero() && queue.when_full() == WhenFull::Wait) else {
            drop(routes);
            return self.publish_long(outgoing);
        };
        let has_room = queue.buffer.try_enter(Load::one(message.weight()));
        let Messages::One(message) = outgoing.messages else { return Answer::ready(Ok(Published::default())) };
        if !has_room {
            return Answer::kept(&*self.singles, self.singles.keep(queue, message, outgoing.origin));
        }
        queue.push(Entry::One(message));
        Answer::ready(Ok(Published { deliveries: 1 }))
    }

    fn route(&self, topic: &Topic) -> Option<Box<dyn Route>> {
        let (epoch, queues) = self.routes.at_present(topic);
        let direct = Direct::new(self.routes.clone(), self.singles.clone(), epoch, &queues)?;
        Some(Box::new(direct))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.closed.store(true, Ordering::SeqCst);
        self.routes.queues().iter().for_each(|queue| queue.close());
        Answer::ready(Ok(()))
    }
}

impl DeadLetters for MemoryBroker {
    fn count(&self) -> Answer<'_, Result<u64>> {
        Answer::ready(self.refuse_if_closed().map(|()| self.letters.count()))
    }

    fn list<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<Vec<DeadLetter>>> {
        let list = || self.letters.find(filter).into_iter().map(|(_, letter)| letter).collect();
        Answer::ready(self.refuse_if_closed().map(|()| list()))
    }

    fn replay<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        Answer::later(self.replay_each(filter))
    }

    fn purge<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        let purge = || self.letters.find(filter).into_iter().filter_map(|(number, _)| self.letters.move_out(number, |_| {})).count() as u64;
        Answer::ready(self.refuse_if_closed().map(|()| purge()))
    }
}

#[cfg(all(test, not(abe_loom)))]
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that unwraps says where it failed")]
mod tests;
