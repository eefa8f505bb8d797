//! What every case works with: a fresh broker, names of its own, and helpers that say what they expect.
//!
//! Nothing here knows which broker it is; what differs is declared by [`Harness`] and by the broker's capabilities.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abe_events::broker::{
    Broker, Consumer, Delivery, Failure, FailureKind, Messages, Outgoing, PublishFailure, Published, Settlement, SubscriptionSpec, Verdict,
};
use abe_events::{ErrorKind, Id, Message, Name, Payload, Topic, TopicPattern};
use tokio::time::timeout;

/// A case's or a harness's future.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a case ends with.
pub(crate) type Check<T = ()> = Result<T, Fault>;

/// Why a case failed. Any error becomes one by `?`.
pub(crate) struct Fault(pub(crate) String);

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: fmt::Display> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Ends the case with a text unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        // Negated as a whole: an author writes what must hold.
        if !$holds {
            return Err(crate::bench::Fault(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

/// Opens brokers of one kind for the suite and declares what the capabilities do not.
pub(crate) trait Harness: Send + Sync {
    /// What the table is headed with.
    fn title(&self) -> &'static str;

    /// A fresh broker that shares nothing with any other.
    fn open(&self) -> Boxed<'_, Check<Arc<dyn Broker>>>;

    /// How time passes.
    fn clock(&self) -> Clock;

    /// How late a retry or a delayed message may come.
    fn tolerance(&self) -> Duration;

    /// A short lease: long enough that a healthy case never loses one.
    fn lease(&self) -> Duration;

    /// What a subscription has where a case is not about leases; `None` only where leases are optional.
    fn usual_lease(&self) -> Option<Duration>;

    /// Whether a message may arrive twice though nothing failed. If not, every case counts strictly.
    fn repeats(&self) -> bool;

    /// A fresh broker that cannot store a dead letter, if there is a way to have one.
    fn open_without_dead_letters(&self) -> Boxed<'_, Check<Option<Arc<dyn Broker>>>>;
}

/// How time passes in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Tokio's paused clock on one thread: waiting costs nothing, and nothing is late.
    Paused,
    /// The wall clock on several threads.
    Real,
}

/// How large the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// The minimums in brackets.
    Short,
    /// The full minimums.
    Stress,
}

impl Size {
    /// As `ABE_CONFORMANCE` says; short unless it says `stress`.
    pub(crate) fn from_env() -> Self {
        if std::env::var("ABE_CONFORMANCE").is_ok_and(|size| size == "stress") { Self::Stress } else { Self::Short }
    }
}

/// One case's workplace.
pub(crate) struct Bench<'a> {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) harness: &'a dyn Harness,
    pub(crate) size: Size,
    unique: u64,
}

impl<'a> Bench<'a> {
    /// A workplace with a fresh broker.
    pub(crate) async fn open(harness: &'a dyn Harness, size: Size) -> Check<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Self { broker: harness.open().await?, harness, size, unique: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// The same workplace with another broker.
    pub(crate) fn on(&self, broker: Arc<dyn Broker>) -> Self {
        Self { broker, ..*self }
    }

    /// The short or the full number.
    pub(crate) fn sized(&self, short: usize, full: usize) -> usize {
        if self.size == Size::Stress { full } else { short }
    }

    /// How long the suite waits for what must come.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(if self.size == Size::Stress { 75 } else { 15 })
    }

    /// How long the suite listens for what must not come.
    pub(crate) fn silence(&self) -> Duration {
        match self.harness.clock() {
            Clock::Paused => Duration::from_secs(5),
            Clock::Real => Duration::from_millis(100),
        }
    }

    /// A delay that is long against everything a healthy broker does at once.
    pub(crate) fn long(&self) -> Duration {
        match self.harness.clock() {
            Clock::Paused => Duration::from_secs(20),
            Clock::Real => Duration::from_millis(700),
        }
    }

    /// A topic no other case uses.
    pub(crate) fn topic(&self, name: &str) -> Check<Topic> {
        Ok(Topic::new(&format!("conformance.{}.{name}", self.unique))?)
    }

    /// A subscription of one topic with room for everything a case publishes.
    pub(crate) fn spec(&self, name: &str, topic: &Topic) -> Check<SubscriptionSpec> {
        self.spec_in_group("conformance", name, topic)
    }

    /// The same in a group of its own.
    pub(crate) fn spec_in_group(&self, group: &str, name: &str, topic: &Topic) -> Check<SubscriptionSpec> {
        let name = format!("{name}-{}", self.unique);
        let mut spec = SubscriptionSpec::new(Name::new(group)?, Name::new(&name)?, vec![TopicPattern::from(topic)]);
        spec.buffer = 16 * 1024;
        spec.unsettled_max = 256;
        spec.lease = self.harness.usual_lease();
        Ok(spec)
    }

    /// The same with a lease, for cases in which something stays unsettled.
    pub(crate) fn leased(&self, name: &str, topic: &Topic) -> Check<SubscriptionSpec> {
        Ok(SubscriptionSpec { lease: Some(self.harness.lease()), ..self.spec(name, topic)? })
    }

    /// A consumer.
    pub(crate) async fn consumer(&self, spec: &SubscriptionSpec) -> Check<Arc<dyn Consumer>> {
        within("subscribe", self.patience(), self.broker.subscribe(spec)).await?.map_err(Fault::from)
    }

    /// Makes the subscription exist, so that what is published before the first consumer waits for it.
    pub(crate) async fn declare(&self, spec: &SubscriptionSpec) -> Check {
        self.close(&*self.consumer(spec).await?).await
    }

    /// Closes a consumer; it must succeed.
    pub(crate) async fn close(&self, consumer: &dyn Consumer) -> Check {
        within("close of a consumer", self.patience(), consumer.close()).await?.map_err(Fault::from)
    }

    /// One publish of several messages, exactly as the broker answers it.
    pub(crate) async fn try_publish(&self, messages: Vec<Message>) -> Check<Result<Published, PublishFailure>> {
        let outgoing = Outgoing { messages: Messages::Many(messages), delay: Duration::ZERO, origin: None };
        within("publish", self.patience(), self.broker.publish(outgoing)).await
    }

    /// One publish of several messages; it must succeed.
    pub(crate) async fn publish(&self, messages: &[Message]) -> Check<Published> {
        Ok(self.try_publish(messages.to_vec()).await??)
    }

    /// A publish for each message.
    pub(crate) async fn publish_singly(&self, messages: &[Message]) -> Check {
        for message in messages {
            within("publish", self.patience(), self.broker.publish(single(message.clone()))).await??;
        }
        Ok(())
    }

    /// A publish for each message, from `workers` tasks at once.
    pub(crate) async fn publish_at_once(&self, messages: &[Message], workers: usize) -> Check {
        let mut tasks = tokio::task::JoinSet::new();
        for share in messages.chunks(messages.len().div_ceil(workers)) {
            let (broker, share) = (self.broker.clone(), share.to_vec());
            tasks.spawn(async move {
                for message in share {
                    broker.publish(single(message)).await.map_err(|failure| failure.to_string())?;
                }
                Ok::<(), String>(())
            });
        }
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            Ok::<(), Fault>(())
        };
        within("publishing at once", self.patience(), all).await?
    }

    /// At least one and at most `max` deliveries of lane 0.
    pub(crate) async fn take(&self, consumer: &dyn Consumer, max: usize) -> Check<Vec<Delivery>> {
        self.take_of(consumer, 0, max).await
    }

    /// At least one and at most `max` deliveries of a lane.
    pub(crate) async fn take_of(&self, consumer: &dyn Consumer, lane: u32, max: usize) -> Check<Vec<Delivery>> {
        let got = within("a delivery", self.patience(), consumer.receive(lane, max, Vec::new())).await??;
        ensure!(!got.is_empty(), "receive answered without a delivery");
        ensure!(got.len() <= max, "receive was asked for {max} deliveries and handed over {}", got.len());
        Ok(got)
    }

    /// One delivery.
    pub(crate) async fn take_one(&self, consumer: &dyn Consumer) -> Check<Delivery> {
        self.take(consumer, 1).await?.pop().ok_or_else(|| Fault::from("no delivery"))
    }

    /// Exactly `n` deliveries, left unsettled.
    pub(crate) async fn hold(&self, consumer: &dyn Consumer, n: usize) -> Check<Vec<Delivery>> {
        let mut held = Vec::new();
        while held.len() < n {
            held.append(&mut self.take(consumer, n - held.len()).await?);
        }
        Ok(held)
    }

    /// Nothing may come for as long as the harness listens.
    pub(crate) async fn nothing_comes(&self, consumer: &dyn Consumer) -> Check {
        self.nothing_comes_for(consumer, self.silence()).await
    }

    /// Nothing may come for a time.
    pub(crate) async fn nothing_comes_for(&self, consumer: &dyn Consumer, time: Duration) -> Check {
        match timeout(time, consumer.receive(0, 1, Vec::new())).await {
            Err(_silent) => Ok(()),
            Ok(Ok(got)) => Err(Fault(format!("nothing more was due, but {:?} came", ids(got.iter().map(|delivery| &delivery.message))))),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Settles one delivery; it must be carried out.
    pub(crate) async fn settle(&self, consumer: &dyn Consumer, delivery: Delivery, verdict: Verdict) -> Check {
        self.settle_all(consumer, vec![Settlement { delivery, verdict }]).await
    }

    /// Settles several deliveries in one call; all must be carried out.
    pub(crate) async fn settle_all(&self, consumer: &dyn Consumer, settlements: Vec<Settlement>) -> Check {
        let settled = within("settle", self.patience(), consumer.settle(settlements)).await?;
        let (lost, failed) = (&settled.lost, &settled.failed);
        ensure!(lost.is_empty(), "{} settlements were reported lost, first {:?}", lost.len(), lost.first());
        ensure!(failed.is_empty(), "{} settlements failed, first {:?}", failed.len(), failed.first());
        ensure!(settled.emptied.is_empty(), "the vector came back with {} settlements in it", settled.emptied.len());
        Ok(())
    }

    /// Acks several deliveries in one call.
    pub(crate) async fn ack(&self, consumer: &dyn Consumer, deliveries: Vec<Delivery>) -> Check {
        let settlements = deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect();
        self.settle_all(consumer, settlements).await
    }

    /// Acks what comes until `n` different messages were seen; a pause of `idle` without any is a fault.
    pub(crate) async fn read(&self, consumer: &dyn Consumer, n: usize, idle: Duration) -> Check<Vec<Got>> {
        let mut seen = BTreeSet::new();
        let mut kept: Vec<Got> = Vec::new();
        while kept.len() < n {
            let Ok(answer) = timeout(idle, consumer.receive(0, 32, Vec::new())).await else {
                return Err(Fault(format!("{} of {n} messages came, then none for {idle:?}", kept.len())));
            };
            let deliveries = answer?;
            ensure!(!deliveries.is_empty(), "receive answered without a delivery");
            for delivery in &deliveries {
                if seen.insert(delivery.message.id().clone()) {
                    kept.push(Got::of(delivery));
                } else {
                    ensure!(self.harness.repeats(), "{} came twice though nothing had failed", delivery.message.id());
                }
            }
            self.ack(consumer, deliveries).await?;
        }
        Ok(kept)
    }

    /// Reads exactly these messages, and nothing after them.
    pub(crate) async fn read_exactly(&self, consumer: &dyn Consumer, sent: &[Message]) -> Check<Vec<Got>> {
        let got = self.read(consumer, sent.len(), self.patience()).await?;
        same_ids(sent, &got)?;
        self.nothing_comes(consumer).await?;
        Ok(got)
    }

    /// Reads exactly these messages through several consumers or lanes at once.
    ///
    /// What is received is noted before it is settled, so that the order of the answer is the order of the deliveries
    /// wherever the broker hands out one of a key at a time.
    pub(crate) async fn read_together(&self, readers: Vec<(Arc<dyn Consumer>, u32)>, sent: &[Message]) -> Check<Vec<Got>> {
        let (note, mut notes) = tokio::sync::mpsc::channel(64);
        let mut tasks = tokio::task::JoinSet::new();
        for (consumer, lane) in readers {
            let note = note.clone();
            tasks.spawn(async move {
                while let Ok(deliveries) = consumer.receive(lane, 8, Vec::new()).await {
                    for delivery in &deliveries {
                        if note.send(Got::of(delivery)).await.is_err() {
                            return;
                        }
                    }
                    let acks = deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect();
                    consumer.settle(acks).await;
                }
            });
        }
        drop(note);
        let mut seen = BTreeSet::new();
        let mut kept = Vec::new();
        while kept.len() < sent.len() {
            let got = within("a delivery to any consumer", 3 * self.patience(), notes.recv())
                .await
                .map_err(|fault| Fault(format!("{} of {} messages came; {}", kept.len(), sent.len(), fault.0)))?;
            let got = got.ok_or_else(|| Fault(format!("all consumers ended after {} of {} messages", kept.len(), sent.len())))?;
            if seen.insert(got.id().clone()) {
                kept.push(got);
            } else {
                ensure!(self.harness.repeats(), "{} came twice though nothing had failed", got.id());
            }
        }
        if let Ok(Some(extra)) = timeout(self.silence(), notes.recv()).await {
            ensure!(self.harness.repeats(), "{} came after all messages had come", extra.id());
        }
        tasks.shutdown().await;
        same_ids(sent, &kept)?;
        Ok(kept)
    }
}

/// A message that was received, and which attempt it was.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
}

impl Got {
    /// What a delivery holds.
    pub(crate) fn of(delivery: &Delivery) -> Self {
        Self { message: delivery.message.clone(), attempt: delivery.attempt }
    }

    /// The message's id.
    pub(crate) fn id(&self) -> &Id {
        self.message.id()
    }
}

/// The answer, or a fault that names what did not come in time.
pub(crate) async fn within<T>(what: &str, time: Duration, future: impl Future<Output = T>) -> Check<T> {
    timeout(time, future).await.map_err(|_late| Fault(format!("{what} did not come within {time:?}")))
}

/// One message on its way.
pub(crate) fn single(message: Message) -> Outgoing {
    Outgoing { messages: Messages::One(message), delay: Duration::ZERO, origin: None }
}

/// A message with bytes.
pub(crate) fn message(topic: &Topic, payload: impl Into<Vec<u8>>) -> Message {
    Message::new(topic.clone(), 1, Payload::from_bytes(payload.into()))
}

/// A message with bytes and a key.
pub(crate) fn keyed(topic: &Topic, key: &str, payload: impl Into<Vec<u8>>) -> Message {
    message(topic, payload).with_key(Some(key.into()))
}

/// Messages whose payloads are their numbers.
pub(crate) fn numbered(topic: &Topic, n: usize) -> Vec<Message> {
    (0..n).map(|i| message(topic, i.to_string())).collect()
}

/// A failure with a text.
pub(crate) fn failure(attempt: u32, text: &str) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Error, attempt, text))
}

/// A failed attempt, to be tried again at once.
pub(crate) fn retry_now(attempt: u32) -> Verdict {
    Verdict::Retry { after: Duration::ZERO, failure: failure(attempt, "told to fail") }
}

/// A failed attempt, to be tried again later.
pub(crate) fn retry_after(attempt: u32, after: Duration) -> Verdict {
    Verdict::Retry { after, failure: failure(attempt, "told to fail") }
}

/// A message given up.
pub(crate) fn give_up(attempt: u32, text: &str) -> Verdict {
    Verdict::DeadLetter { failure: failure(attempt, text) }
}

/// The ids of messages, in order.
pub(crate) fn ids<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<Id> {
    messages.into_iter().map(|message| message.id().clone()).collect()
}

/// The same ids, each as often, in any order.
pub(crate) fn same_ids(sent: &[Message], got: &[Got]) -> Check {
    same_sets(sent.iter().map(Message::id), got.iter().map(Got::id))
}

/// The same ids, each as often, in any order.
pub(crate) fn same_sets<'m>(want: impl IntoIterator<Item = &'m Id>, got: impl IntoIterator<Item = &'m Id>) -> Check {
    let mut balance: BTreeMap<&Id, i64> = BTreeMap::new();
    want.into_iter().for_each(|id| *balance.entry(id).or_default() += 1);
    got.into_iter().for_each(|id| *balance.entry(id).or_default() -= 1);
    let missing: Vec<_> = balance.iter().filter(|(_, left)| **left > 0).map(|(id, _)| id).collect();
    let extra: Vec<_> = balance.iter().filter(|(_, left)| **left < 0).map(|(id, _)| id).collect();
    ensure!(
        missing.is_empty() && extra.is_empty(),
        "{} missing (first {:?}), {} too many (first {:?})",
        missing.len(),
        missing.first(),
        extra.len(),
        extra.first()
    );
    Ok(())
}

/// An error of a kind.
pub(crate) fn is_kind<T>(what: &str, answer: Result<T, abe_events::Error>, kind: ErrorKind) -> Check {
    match answer {
        Ok(_) => Err(Fault(format!("{what} must fail with {kind:?}, but succeeded"))),
        Err(error) => {
            ensure!(error.kind() == kind, "{what} must fail with {kind:?}, but failed with {error:?}");
            Ok(())
        }
    }
}
