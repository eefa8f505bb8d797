//! A hand-written feed: it hands out what the test says, and writes down what the worker does.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use abe_events::__private::Limits;
use abe_events::broker::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetters, Delivery, Durability, Origin, Outgoing, PublishFailure, Published,
    SubscriptionSpec, Token,
};
use abe_events::handler::{
    Beat, BoxWorker, Ended, Feed, HandlerDescriptor, InboxKey, Interrupt, LaneContext, Lent, Next, Reservation, Resolver, States, Transact,
};
use abe_events::{Error, Event, Id, Message, Name, Payload, Publisher, Result, Topic};

/// How a delivery ended, by the message's number in the script.
pub(crate) type Done = (usize, Option<InboxKey>, Ended);

/// A lane that is played from a script.
pub(crate) struct Script {
    lane: LaneContext,
    queue: VecDeque<Delivery>,
    /// What is lent as a run.
    run: Vec<Message>,
    /// How many messages of a run were acked at once, and how many of those were filtered.
    pub acks: Vec<(usize, usize)>,
    pub filtered: usize,
    ids: Vec<Id>,
    pub batch_max: usize,
    pub batch_bytes_max: usize,
    pub idempotent: bool,
    pub busy: HashSet<InboxKey>,
    pub applied: HashSet<InboxKey>,
    pub interrupt: Option<Interrupt>,
    pub refuse_publish: bool,
    pub done: Vec<Done>,
    pub published: Vec<Message>,
    pub calls: Vec<&'static str>,
    inside: bool,
}

impl Script {
    /// A script of messages, each on its first attempt.
    pub(crate) fn new(messages: Vec<Message>) -> Self {
        Self::with_attempts(messages.into_iter().map(|message| (message, 1)).collect())
    }

    /// A script of messages with the attempt each is on.
    pub(crate) fn with_attempts(messages: Vec<(Message, u32)>) -> Self {
        let origin = Origin { consumer: ConsumerId(1), lane: 0 };
        let limits = Limits::new(1 << 20);
        let publisher = Publisher::new(Arc::new(Nowhere(capabilities())), Arc::new(limits));
        Self {
            lane: LaneContext {
                subscription: Name::new("script").unwrap(),
                publisher: publisher.from_lane(origin),
                origin,
                transaction: None,
            },
            ids: messages.iter().map(|(message, _)| message.id().clone()).collect(),
            queue: messages.into_iter().map(|(message, attempt)| Delivery { message, attempt, token: Token(7), failures: None }).collect(),
            run: Vec::new(),
            acks: Vec::new(),
            filtered: 0,
            batch_max: 1,
            batch_bytes_max: usize::MAX,
            idempotent: false,
            busy: HashSet::new(),
            applied: HashSet::new(),
            interrupt: None,
            refuse_publish: false,
            done: Vec::new(),
            published: Vec::new(),
            calls: Vec::new(),
            inside: false,
        }
    }

    /// The same, lent as a run.
    pub(crate) fn lending(mut self) -> Self {
        self.run = self.queue.drain(..).map(|delivery| delivery.message).collect();
        self
    }

    /// Plays the script to its end.
    pub(crate) fn play(mut self, worker: &BoxWorker) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(worker.run(&mut self));
        assert!(!self.inside, "user code was left without saying so");
        self
    }

    /// Plays the script with a handler that needs no state.
    pub(crate) fn play_with(self, handler: &HandlerDescriptor) -> Self {
        self.play(&bind(handler, &States::default()))
    }

    /// How the messages ended, in the order of the script.
    pub(crate) fn endings(&self) -> Vec<Ended> {
        let mut done = self.done.clone();
        done.sort_by_key(|(index, ..)| *index);
        let indices: Vec<usize> = done.iter().map(|(index, ..)| *index).collect();
        assert_eq!(indices, (0..self.ids.len()).collect::<Vec<_>>(), "every message is done with, exactly once");
        done.into_iter().map(|(.., ended)| ended).collect()
    }

    /// How the only message ended.
    pub(crate) fn ending(&self) -> Ended {
        let endings = self.endings();
        assert_eq!(endings.len(), 1);
        endings[0].clone()
    }
}

/// Binds a handler whose states are all there.
pub(crate) fn bind(handler: &HandlerDescriptor, states: &States) -> BoxWorker {
    let mut resolver = Resolver::new(states);
    let worker = (handler.bind)(&mut resolver);
    assert_eq!(resolver.into_missing(), Vec::<String>::new());
    worker.unwrap()
}

/// An event as a message, handed over as the value itself.
pub(crate) fn typed<T: Event>(event: T) -> Message {
    let key = event.key();
    Message::new(Topic::new(T::DESCRIPTOR.topic).unwrap(), T::DESCRIPTOR.version, Payload::Typed(Arc::new(event))).with_key(key)
}

/// JSON as a message.
pub(crate) fn json(topic: &str, version: u32, json: &'static str) -> Message {
    Message::new(Topic::new(topic).unwrap(), version, Payload::from_bytes(json))
}

impl Feed for Script {
    fn lane(&self) -> &LaneContext {
        &self.lane
    }

    fn transact(&mut self) -> Option<&mut dyn Transact> {
        None
    }

    fn poll_run(&mut self, _: bool, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(!self.run.is_empty())
    }

    fn lent(&self) -> Lent<'_> {
        Lent { messages: &self.run, lane: &self.lane, beat: self }
    }

    fn acked(&mut self, count: usize, filtered: usize) {
        assert!(!self.inside, "settled within user code");
        if count > 0 {
            self.acks.push((count, filtered));
        }
        self.filtered += filtered;
        for message in self.run.drain(..count) {
            let index = self.ids.iter().position(|id| id == message.id()).unwrap();
            self.done.push((index, None, Ended::Success));
        }
    }

    fn take_lent(&mut self) -> Option<(Delivery, Option<InboxKey>)> {
        let message = (!self.run.is_empty()).then(|| self.run.remove(0))?;
        Some((Delivery { message, attempt: 1, token: Token(7), failures: None }, None))
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Delivery>> {
        Poll::Ready(self.queue.pop_front())
    }

    fn batch_begins(&mut self) {
        self.calls.push("batch_begins");
    }

    fn poll_more(&mut self, _: &mut Context<'_>) -> Poll<Option<Delivery>> {
        Poll::Ready(self.queue.pop_front())
    }

    fn put_back(&mut self, delivery: Delivery) {
        self.calls.push("put_back");
        self.queue.push_front(delivery);
    }

    fn batch_max(&self) -> usize {
        self.batch_max
    }

    fn batch_bytes_max(&self) -> usize {
        self.batch_bytes_max
    }

    fn idempotent(&self) -> bool {
        self.idempotent
    }

    fn poll_reserve(&mut self, key: &InboxKey, _: &mut Context<'_>) -> Poll<Reservation> {
        Poll::Ready(if self.applied.contains(key) {
            Reservation::Applied
        } else if self.busy.insert(key.clone()) {
            Reservation::Reserved
        } else {
            Reservation::Busy
        })
    }

    fn attempt_starts(&mut self, _: usize) {
        self.calls.push("attempt_starts");
    }

    fn in_user_code(&mut self, inside: bool) {
        assert_ne!(self.inside, inside);
        self.inside = inside;
    }

    fn poll_interrupt(&mut self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        match self.interrupt {
            Some(interrupt) => Poll::Ready(interrupt),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn attempt_ends(&mut self) {
        self.calls.push("attempt_ends");
    }

    fn publish(&mut self, messages: Vec<Message>) {
        self.calls.push("publish");
        self.published.extend(messages);
    }

    fn poll_publish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(if self.refuse_publish { Err(Error::msg("the broker is away")) } else { Ok(()) })
    }

    fn done(&mut self, delivery: Delivery, key: Option<InboxKey>, ended: Ended) {
        self.calls.push("done");
        if let Some(key) = &key {
            assert!(self.busy.remove(key), "a key that was not reserved");
            if ended == Ended::Success {
                self.applied.insert(key.clone());
            }
        }
        let index = self.ids.iter().position(|id| id == delivery.message.id()).unwrap();
        self.done.push((index, key, ended));
    }
}

impl Beat for Script {
    fn next(&self) -> Next {
        assert!(self.inside, "user code is about to run");
        Next::Timed
    }

    fn time_starts(&self) {}

    fn ends(&self) {}
}

/// A broker that nothing is published to in these tests.
#[derive(Debug)]
struct Nowhere(Capabilities);

fn capabilities() -> Capabilities {
    Capabilities {
        name: "nowhere",
        durability: Durability::Process,
        wildcards: false,
        ordered: false,
        atomic_publish: true,
        fencing: true,
        leases_optional: true,
        durable_delays: false,
        start: &[],
        competing_consumers: false,
        bounded_queues: true,
        payload_bytes_max: 1 << 20,
    }
}

impl Broker for Nowhere {
    fn capabilities(&self) -> &Capabilities {
        &self.0
    }

    fn subscribe<'a>(&'a self, _: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        unreachable!()
    }

    fn publish(&self, _: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        Answer::ready(Ok(Published { deliveries: 1 }))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        unreachable!()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        Answer::ready(Ok(()))
    }
}

/// Pending once, so that a poll is interrupted.
pub(crate) async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A future that never ends, to be interrupted.
pub(crate) fn forever() -> impl Future<Output = ()> {
    std::future::pending()
}
