//! From an event to a message in a broker: one way, for the runtime's handle and for handlers.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use compact_str::CompactString;
use foldhash::fast::RandomState;

use crate::broker::{Answer, Broker, Messages, Origin, Outgoing, PublishFailure, Published, Route};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::handler::TransactionSlot;
use crate::lane_scope;
use crate::message::{Headers, Id, Lineage, Message, Payload, tick_ms};
use crate::topic::Topic;

/// What can be published: an event by value, or shared.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be published",
    label = "not an event",
    note = "publish a value, or an `Arc`, of a type declared with `#[event(topic = \"...\")]`"
)]
pub trait Publishable {
    /// The event.
    type Event: Event;

    /// The event, shared.
    fn into_shared(self) -> Arc<Self::Event>;
}

#[diagnostic::do_not_recommend]
impl<T: Event> Publishable for T {
    type Event = T;

    fn into_shared(self) -> Arc<T> {
        Arc::new(self)
    }
}

impl<T: Event> Publishable for Arc<T> {
    type Event = T;

    fn into_shared(self) -> Self {
        self
    }
}

/// Makes messages of events and hands them to a broker.
#[derive(Clone)]
pub struct Publisher {
    broker: Arc<dyn Broker>,
    limits: Arc<Limits>,
    origin: Option<Origin>,
}

/// The longest key, in bytes: it travels as a header, and brokers bound those.
pub const KEY_BYTES_MAX: usize = 1024;

/// How many topics are counted one by one; the rest is in the sum only.
const TOPICS_COUNTED_MAX: usize = 4096;

type TopicCounts = HashMap<Topic, Arc<AtomicU64>, RandomState>;

/// What a publisher checks, and what it counts.
#[derive(Debug)]
pub struct Limits {
    /// The largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// How many messages no subscription took.
    pub unrouted: AtomicU64,
    /// Of the topics of declared events, whose text stands at a fixed address.
    declared: Box<[DeclaredCount]>,
    /// Of all others. Read on every publish, replaced when a topic is met for the first time.
    topics: ArcSwap<TopicCounts>,
    /// Of topics beyond those that are counted one by one.
    beyond: AtomicU64,
}

/// How many declared topics are counted without a look into the map; a power of two.
const DECLARED_SLOTS: usize = 256;

/// How many slots are tried for one; what finds none free is counted in the map.
const DECLARED_PROBES: usize = 8;

/// A declared topic's count. Once taken, a slot stays with its topic.
#[derive(Debug, Default)]
struct DeclaredCount {
    topic: OnceLock<&'static str>,
    count: AtomicU64,
    /// The broker's way for the topic, as it was and as it is: subscriptions seldom change, and after the last place the
    /// broker is asked for each message.
    routes: [OnceLock<Box<dyn Route>>; ROUTES],
    /// Which of them is the latest.
    latest: AtomicUsize,
}

/// How many changes of the subscriptions a declared topic follows with a route of its own.
const ROUTES: usize = 8;

impl DeclaredCount {
    #[inline]
    fn route(&self) -> Option<&dyn Route> {
        self.routes.get(self.latest.load(Ordering::Acquire))?.get().map(|route| &**route)
    }

    /// Asks for the present route, unless it is known.
    fn renew(&self, broker: &dyn Broker, topic: &Topic) {
        let at = match self.route() {
            Some(route) if route.is_current() => return,
            Some(_) => self.latest.load(Ordering::Acquire) + 1,
            None => self.latest.load(Ordering::Acquire),
        };
        let Some(place) = self.routes.get(at) else { return };
        if let Some(route) = broker.route(topic) {
            place.get_or_init(|| route);
            self.latest.fetch_max(at, Ordering::AcqRel);
        }
    }
}

impl Limits {
    /// Limits, and counters at zero.
    pub fn new(payload_bytes_max: usize) -> Self {
        Self {
            payload_bytes_max,
            unrouted: AtomicU64::new(0),
            declared: (0..DECLARED_SLOTS).map(|_| DeclaredCount::default()).collect(),
            topics: ArcSwap::default(),
            beyond: AtomicU64::new(0),
        }
    }

    #[cold]
    fn count_unrouted(&self, count: u64) {
        self.unrouted.fetch_add(count, Ordering::Relaxed);
        tracing::debug!(count, "published, but nobody subscribes");
    }

    /// Messages published since start.
    pub fn published(&self) -> u64 {
        let declared: u64 = self.declared.iter().map(|slot| slot.count.load(Ordering::Relaxed)).sum();
        let others: u64 = self.topics.load().values().map(|count| count.load(Ordering::Relaxed)).sum();
        declared + others + self.beyond.load(Ordering::Relaxed)
    }

    /// Messages published by topic, sorted.
    pub fn topics(&self) -> Vec<(String, u64)> {
        let mut topics: BTreeMap<String, u64> =
            self.topics.load().iter().map(|(topic, count)| (topic.to_string(), count.load(Ordering::Relaxed))).collect();
        for slot in &self.declared {
            // A slot is taken just before it counts; the same text may stand at several addresses.
            if let (Some(topic), count @ 1..) = (slot.topic.get(), slot.count.load(Ordering::Relaxed)) {
                *topics.entry((*topic).to_owned()).or_default() += count;
            }
        }
        topics.into_iter().collect()
    }

    /// Counts messages of a topic, and says how many there were before.
    #[inline]
    fn count_topic(&self, topic: &Topic, n: u64) -> u64 {
        match topic.as_static().and_then(|text| self.declared(text)) {
            Some(slot) => slot.count.fetch_add(n, Ordering::Relaxed),
            None => self.count_other(topic, n),
        }
    }

    /// The count of a text at a fixed address: found by the address alone, so that nothing is hashed, compared or locked.
    #[inline]
    fn declared(&self, text: &'static str) -> Option<&DeclaredCount> {
        // Fibonacci hashing: texts stand close together, and only the product's upper half is well mixed.
        let start = ((text.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        let slot = self.declared.get(start % DECLARED_SLOTS)?;
        match slot.topic.get() {
            Some(topic) if std::ptr::eq(*topic, text) => Some(slot),
            _ => self.declared_beside(start, text),
        }
    }

    /// The same for a text whose own slot is not taken yet, or by another.
    #[cold]
    fn declared_beside(&self, start: usize, text: &'static str) -> Option<&DeclaredCount> {
        (start..start + DECLARED_PROBES).find_map(|at| {
            let slot = self.declared.get(at % DECLARED_SLOTS)?;
            let topic = *slot.topic.get_or_init(|| text);
            std::ptr::eq(topic, text).then_some(slot)
        })
    }

    fn count_other(&self, topic: &Topic, n: u64) -> u64 {
        if let Some(count) = self.topics.load().get(topic) {
            return count.fetch_add(n, Ordering::Relaxed);
        }
        self.topics.rcu(|known| {
            let mut known = TopicCounts::clone(known);
            if known.len() < TOPICS_COUNTED_MAX {
                known.entry(topic.clone()).or_default();
            }
            known
        });
        self.topics.load().get(topic).map_or(&self.beyond, |count| count).fetch_add(n, Ordering::Relaxed)
    }
}

/// How many messages of a topic use up one of the 128 things that tokio lets a task do before it must give way: so many that
/// a burst seldom ends for that reason, and few enough that a loop without end does.
const MESSAGES_PER_TURN: u64 = 4;

/// How many of the 128 are used up when a thread's publishes see the next tick of the clock: all, for a task that publishes
/// before a tick and after it may compute for long, and a lane that it woke may wait for its thread.
const TURNS_PER_TICK: u32 = 128;

/// How much of tokio's budget is used up: `before` messages of the topic went before, and `n` are added.
fn turns(before: u64, n: u64, new_tick: bool) -> u32 {
    let of_messages = (before + n) / MESSAGES_PER_TURN - before / MESSAGES_PER_TURN;
    // Of all of them, at most: then it gives way once.
    (of_messages.min(128) as u32 + if new_tick { TURNS_PER_TICK } else { 0 }).min(128)
}

impl Publisher {
    /// A publisher into a broker.
    pub fn new(broker: Arc<dyn Broker>, limits: Arc<Limits>) -> Self {
        Self { broker, limits, origin: None }
    }

    /// The same for a lane's handlers.
    #[must_use]
    pub fn from_lane(&self, origin: Origin) -> Self {
        Self { origin: Some(origin), ..self.clone() }
    }

    /// The message of an event: a new id, the event's key, the present time.
    ///
    /// # Errors
    ///
    /// When the user's key expression panics.
    pub fn message<P: Publishable>(&self, event: P) -> Result<Message> {
        message_at(tick_ms(), event)
    }

    /// The messages of events, as [`message`](Publisher::message) makes them, with one lineage; the clock is read once.
    pub fn messages<P: Publishable>(&self, events: impl IntoIterator<Item = P>, lineage: Option<Arc<Lineage>>) -> Result<Vec<Message>> {
        let now_ms = tick_ms();
        let chained = |message: Message| if lineage.is_some() { message.with_lineage(lineage.clone()) } else { message };
        events.into_iter().map(|event| message_at(now_ms, event).map(chained)).collect()
    }

    /// Publishes an event and answers its id. Within a handler's code it is an effect of the handler's message.
    pub async fn publish<P: Publishable>(&self, event: P) -> Result<Id> {
        // Not in one expression: its parts would become parts of the future.
        let posted = self.post_event(event)?;
        match posted {
            Posted::Stored { id, turns: 0 } => Ok(id),
            posted => posted.finish().await,
        }
    }

    #[inline]
    fn post_event<P: Publishable>(&self, event: P) -> Result<Posted<'_>> {
        match lane_scope::lineage() {
            None => self.post(message_at(tick_ms(), event)?),
            Some(lineage) => self.post_effect(event, lineage),
        }
    }

    /// Apart from the above, because a message that is given its lineage is copied for it.
    #[inline(never)]
    fn post_effect<P: Publishable>(&self, event: P, lineage: Arc<Lineage>) -> Result<Posted<'_>> {
        self.post(message_at(tick_ms(), event)?.with_lineage(Some(lineage)))
    }

    /// Publishes one message and answers its id.
    pub async fn send(&self, message: Message) -> Result<Id> {
        self.post(message)?.finish().await
    }

    /// Hands one message to the broker, which mostly has room for it at once: then no future ever holds it.
    #[inline(always)]
    fn post(&self, message: Message) -> Result<Posted<'_>> {
        self.check_size(&message)?;
        let (id, topic) = (message.id().clone(), message.topic().clone());
        let origin = self.origin.or_else(lane_scope::current);
        let slot = topic.as_static().and_then(|text| self.limits.declared(text));
        let answer = match slot.and_then(DeclaredCount::route) {
            Some(route) if route.is_open() => route.publish(message, origin),
            _ => self.ask(slot, message, origin),
        };
        match answer {
            Answer::Ready(Some(Ok(published))) => {
                let before = match slot {
                    Some(slot) => slot.count.fetch_add(1, Ordering::Relaxed),
                    None => self.limits.count_other(&topic, 1),
                };
                if published.deliveries == 0 {
                    self.limits.count_unrouted(1);
                }
                let turns = turns(before, 1, id.is_first_of_its_time());
                Ok(Posted::Stored { id, turns })
            }
            answer => {
                Ok(Posted::Waits { id, sending: Sending { limits: &self.limits, count: 1, topics: TopicsOf::One(topic, 1), answer } })
            }
        }
    }

    /// Hands a message to the broker itself, and asks for the way to go next time.
    fn ask(&self, slot: Option<&DeclaredCount>, message: Message, origin: Option<Origin>) -> Answer<'_, Result<Published, PublishFailure>> {
        if let Some(slot) = slot {
            slot.renew(&*self.broker, message.topic());
        }
        self.broker.publish(Outgoing { messages: Messages::One(message), delay: Duration::ZERO, origin })
    }

    /// Publishes messages, not to be handled before `delay` has passed.
    pub async fn send_delayed(&self, messages: Messages, delay: Duration) -> Result<()> {
        self.begin(messages, delay)?.finish().await
    }

    /// Hands messages to the broker. No future of ours holds them: each that did would copy them once more.
    #[inline]
    fn begin(&self, messages: Messages, delay: Duration) -> Result<Sending<'_>> {
        for message in messages.as_slice() {
            self.check_size(message)?;
        }
        let count = messages.as_slice().len() as u64;
        let topics = TopicsOf::new(messages.as_slice());
        let origin = self.origin.or_else(lane_scope::current);
        let answer = self.broker.publish(Outgoing { messages, delay, origin });
        Ok(Sending { limits: &self.limits, count, topics, answer })
    }

    /// Publishes messages of an outbox, and counts them; says of a failure how many are stored.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) async fn relay(&self, messages: Vec<Message>, delay: Duration) -> Result<(), PublishFailure> {
        let topics = TopicsOf::new(&messages);
        let count = messages.len() as u64;
        let published = self.broker.publish(Outgoing { messages: Messages::Many(messages), delay, origin: None }).await?;
        topics.count(&self.limits);
        if published.deliveries == 0 {
            self.limits.count_unrouted(count);
        }
        Ok(())
    }

    /// Begins a publish with options.
    pub fn publishing<P: Publishable>(&self, event: P) -> Publish<'_> {
        Publish { publisher: self, message: self.message(event), delay: Duration::ZERO, within: None }
    }

    /// A typed event without a key has nothing that could be too large.
    #[inline]
    pub(crate) fn check_size(&self, message: &Message) -> Result<()> {
        if message.key().is_none() && matches!(message.payload(), Payload::Typed(_)) { Ok(()) } else { self.check_sizes(message) }
    }

    fn check_sizes(&self, message: &Message) -> Result<()> {
        if let Some(key) = message.key()
            && key.len() > KEY_BYTES_MAX
        {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("key of {} has {} bytes, at most {KEY_BYTES_MAX} are allowed", message.topic(), key.len()),
            ));
        }
        let Payload::Encoded(encoded) = message.payload() else { return Ok(()) };
        self.check_bytes(message, encoded.bytes().len())
    }

    /// Checks a payload whose size is known.
    pub(crate) fn check_bytes(&self, message: &Message, size: usize) -> Result<()> {
        let max = self.limits.payload_bytes_max;
        if size <= max {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, format!("payload of {} has {size} bytes, at most {max} are allowed", message.topic())))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("broker", &self.broker).field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[inline]
fn message_at<P: Publishable>(now_ms: u64, event: P) -> Result<Message> {
    let event = event.into_shared();
    let descriptor = <P::Event as Event>::DESCRIPTOR;
    let key = if descriptor.has_key { key_of(&*event)? } else { None };
    Ok(Message::at(now_ms, Topic::from_static(descriptor.topic), descriptor.version, Payload::Typed(event), key))
}

/// A message that was handed to the broker.
enum Posted<'a> {
    /// Every subscription has it.
    Stored { id: Id, turns: u32 },
    /// The broker answers later, or refused it.
    Waits { id: Id, sending: Sending<'a> },
}

impl Posted<'_> {
    async fn finish(self) -> Result<Id> {
        match self {
            Self::Stored { id, turns } => {
                give_way(turns).await;
                Ok(id)
            }
            Self::Waits { id, sending } => sending.finish().await.map(|()| id),
        }
    }
}

/// A task that publishes without end gives way now and then, as everything does that waits in tokio.
async fn give_way(turns: u32) {
    for _ in 0..turns {
        tokio::task::coop::consume_budget().await;
    }
}

/// Messages that a broker has taken and not answered for yet.
struct Sending<'a> {
    limits: &'a Limits,
    count: u64,
    topics: TopicsOf,
    answer: Answer<'a, Result<Published, PublishFailure>>,
}

impl Sending<'_> {
    /// Waits for the answer, and counts.
    async fn finish(self) -> Result<()> {
        let published = self.answer.await.map_err(Error::from)?;
        let turns = self.topics.count(self.limits);
        if published.deliveries == 0 {
            self.limits.count_unrouted(self.count);
        }
        give_way(turns).await;
        Ok(())
    }
}

/// How many messages of which topic are given away, in runs: most batches are one run, and need no vector.
enum TopicsOf {
    One(Topic, u64),
    Many(Vec<(Topic, u64)>),
}

impl TopicsOf {
    #[inline]
    fn new(messages: &[Message]) -> Self {
        match messages {
            [one] => Self::One(one.topic().clone(), 1),
            [first, others @ ..] if others.iter().all(|other| other.topic() == first.topic()) => {
                Self::One(first.topic().clone(), messages.len() as u64)
            }
            many => {
                let runs = many.chunk_by(|one, next| one.topic() == next.topic());
                Self::Many(runs.filter_map(|run| Some((run.first()?.topic().clone(), run.len() as u64))).collect())
            }
        }
    }

    /// Counts them, and says how much of tokio's budget that uses up.
    fn count(&self, limits: &Limits) -> u32 {
        let count = |topic, n| turns(limits.count_topic(topic, n), n, false);
        match self {
            Self::One(topic, n) => count(topic, *n),
            Self::Many(runs) => runs.iter().map(|(topic, n)| count(topic, *n)).fold(0, u32::saturating_add),
        }
    }
}

/// The user's key expression is user code: it may panic.
fn key_of<E: Event>(event: &E) -> Result<Option<CompactString>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event.key())).map_err(|panic| {
        Error::new(
            ErrorKind::NotStored,
            format!("the key expression of {} panicked: {}", E::DESCRIPTOR.name, crate::panics::text_of(&*panic)),
        )
    })
}

/// A publish with options; nothing happens before [`send`](Publish::send).
#[must_use = "nothing is published before `.send().await`"]
#[derive(Debug)]
pub struct Publish<'a> {
    publisher: &'a Publisher,
    message: Result<Message>,
    delay: Duration,
    within: Option<&'a (Arc<TransactionSlot>, u64)>,
}

impl<'a> Publish<'a> {
    /// Not to be handled before so much time has passed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.message = self.message.and_then(|message| {
            let mut headers: Headers = message.headers().clone();
            headers.insert(name, value)?;
            Ok(message.with_headers(headers))
        });
        self
    }

    /// Another key than the event's own.
    pub fn key(mut self, key: impl Into<CompactString>) -> Self {
        self.message = self.message.map(|message| message.with_key(Some(key.into())));
        self
    }

    /// An id of the user's: what duplicates are recognised by.
    pub fn id(mut self, id: Id) -> Self {
        self.message = self.message.map(|message| message.with_id(id));
        self
    }

    /// When the event happened, if not now.
    pub fn time(mut self, time: SystemTime) -> Self {
        self.message = self.message.map(|message| message.with_time(time));
        self
    }

    /// The id of a chain that began elsewhere, such as a request's.
    pub fn correlation(mut self, id: Id) -> Self {
        self.message = self.message.map(|message| {
            let lineage = Lineage::received(id.clone(), id, message.hops(), message.topic().clone());
            message.with_lineage(Some(lineage))
        });
        self
    }

    /// Begins a chain: no effect of the message that is being handled, but an event of its own, such as the next tick of a
    /// clock. Its correlation id is its own id, and it has passed no handler: `max_hops` does not end what goes on by it.
    pub fn new_chain(mut self) -> Self {
        self.message = self.message.map(|message| message.with_lineage(None));
        self
    }

    pub(crate) fn caused_by(mut self, lineage: Arc<Lineage>) -> Self {
        self.message = self.message.map(|message| message.with_lineage(Some(lineage)));
        self
    }

    /// The message and its delay.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn into_parts(self) -> Result<(Message, Duration)> {
        Ok((self.message?, self.delay))
    }

    /// Publishes into the transaction a handler works in, if it does.
    pub(crate) fn within(mut self, transaction: Option<&'a (Arc<TransactionSlot>, u64)>) -> Self {
        self.within = transaction;
        self
    }

    /// Publishes, and answers the message's id.
    ///
    /// # Errors
    ///
    /// What an option got that is not allowed; else as [`Runtime::publish`](crate::Runtime::publish).
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting, the outcome is unknown: publish again with the same [`id`](Publish::id).
    pub async fn send(self) -> Result<Id> {
        let message = self.message?;
        let id = message.id().clone();
        let Some((slot, number)) = self.within else {
            self.publisher.send_delayed(Messages::One(message), self.delay).await?;
            return Ok(id);
        };
        self.publisher.check_size(&message)?;
        if slot.publish(*number, message, self.delay) {
            return Ok(id);
        }
        let text = "the handler's attempt is over, and what it publishes belongs to its transaction; publish before it returns";
        Err(Error::new(ErrorKind::Closed, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_counted_wherever_their_text_stands() {
        let limits = Limits::new(1);
        let (one, same): (&'static str, &'static str) = ("a", String::from("a").leak());
        assert!(!std::ptr::eq(one, same));
        for topic in [Topic::from_static(one), Topic::from_static(same), Topic::new("a").unwrap(), Topic::new("b").unwrap()] {
            limits.count_topic(&topic, 2);
        }
        assert_eq!(limits.topics(), [("a".to_owned(), 6), ("b".to_owned(), 2)]);
    }

    #[test]
    fn more_declared_topics_than_slots_are_all_counted() {
        let limits = Limits::new(1);
        let texts: Vec<&'static str> = (0..2 * DECLARED_SLOTS).map(|n| &*format!("t{n:04}").leak()).collect();
        for _ in 0..3 {
            for text in &texts {
                limits.count_topic(&Topic::from_static(text), 1);
            }
        }
        let expected: Vec<(String, u64)> = texts.iter().map(|text| ((*text).to_owned(), 3)).collect();
        assert_eq!(limits.topics(), expected);
        assert!(!limits.topics.load().is_empty(), "some are in the map");
        assert_eq!(limits.published(), 6 * DECLARED_SLOTS as u64);
    }
}
