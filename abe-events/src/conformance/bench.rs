//! What every case works with: a fresh broker, names of its own, and helpers that say what they expect.
//!
//! Nothing here knows which broker it is; what differs is declared by [`Backend`] and by the broker's capabilities.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

pub(crate) use super::tools::{
    Check, Fault, Got, ensure, give_up, ids, is_kind, keyed, message, numbered, retry_after, retry_now, same_ids, same_sets, single, within,
};
use super::used::Used;
use super::{Backend, Clock, Size};
use crate::broker::{Broker, Consumer, Delivery, Messages, Outgoing, PublishFailure, Published, Settlement, SubscriptionSpec, Verdict};
use crate::{Message, Name, Topic, TopicPattern};

/// What a lease is where a case is not about leases: long enough that a loaded machine loses none.
const USUAL_LEASE: Duration = Duration::from_secs(30);

/// One case's workplace.
pub(crate) struct Bench {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) backend: Arc<dyn Backend>,
    size: Size,
    unique: u64,
    storage: String,
    used: Arc<Used>,
}

impl Bench {
    /// A workplace with a fresh broker.
    pub(crate) async fn open(backend: Arc<dyn Backend>, size: Size, used: Arc<Used>) -> Check<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let storage = used.name_storage();
        let broker = backend.open(&storage).await?;
        Ok(Self { broker, backend, size, unique: NEXT.fetch_add(1, Ordering::Relaxed), storage, used }.noted())
    }

    fn noted(self) -> Self {
        self.used.note(self.broker.clone());
        self
    }

    /// The same workplace with another broker.
    fn on(&self, broker: Arc<dyn Broker>, storage: String) -> Self {
        Self { broker, backend: self.backend.clone(), storage, used: self.used.clone(), ..*self }.noted()
    }

    /// The same workplace with a broker that cannot store a dead letter, if the backend has one.
    pub(crate) async fn without_dead_letters(&self) -> Check<Option<Self>> {
        let storage = self.used.name_storage();
        let opened = self.backend.open_without_dead_letters(&storage).await?;
        Ok(opened.map(|broker| self.on(broker, storage)))
    }

    /// The same workplace after its broker was closed and its storage opened again.
    pub(crate) async fn reopened(&self) -> Check<Self> {
        within("close of the broker", self.patience(), self.broker.close()).await??;
        let broker = within("opening the storage again", self.patience(), self.backend.open(&self.storage)).await??;
        Ok(self.on(broker, self.storage.clone()))
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
        match self.backend.clock() {
            Clock::Paused => Duration::from_secs(5),
            Clock::Real => Duration::from_millis(100),
        }
    }

    /// A delay that is long against everything a healthy broker does at once.
    pub(crate) fn long(&self) -> Duration {
        match self.backend.clock() {
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
        spec.lease = self.usual_lease();
        Ok(spec)
    }

    /// What a subscription has where a case is not about leases.
    fn usual_lease(&self) -> Option<Duration> {
        self.backend.leased().then(|| self.backend.lease().max(USUAL_LEASE))
    }

    /// The same with a lease, for cases in which something stays unsettled.
    pub(crate) fn leased(&self, name: &str, topic: &Topic) -> Check<SubscriptionSpec> {
        Ok(SubscriptionSpec { lease: Some(self.backend.lease()), ..self.spec(name, topic)? })
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

    /// Nothing may come for as long as the suite listens.
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
                    ensure!(self.backend.repeats(), "{} came twice though nothing had failed", delivery.message.id());
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
                ensure!(self.backend.repeats(), "{} came twice though nothing had failed", got.id());
            }
        }
        if let Ok(Some(extra)) = timeout(self.silence(), notes.recv()).await {
            ensure!(self.backend.repeats(), "{} came after all messages had come", extra.id());
        }
        tasks.shutdown().await;
        same_ids(sent, &kept)?;
        Ok(kept)
    }
}
