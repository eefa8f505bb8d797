//! The contract of a broker, promise by promise, and what only the memory broker promises.

mod contract;
mod cycles;
mod leases;
mod letters;
mod local;
mod order;
mod pressure;

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::MemoryBroker;
use crate::message::{Message, Payload};
use crate::topic::{Name, Topic, TopicPattern};
use crate::{Error, ErrorKind};

/// What a subscription has to do, without what it ever had.
fn depth_of(consumer: &dyn Consumer) -> Depth {
    Depth { accepted: 0, ..consumer.depth() }
}

/// A broker under test.
fn broker() -> Arc<MemoryBroker> {
    Arc::new(MemoryBroker::new())
}

/// A subscription `name` to topic `t`, without leases, with room for four.
fn spec(name: &str) -> SubscriptionSpec {
    let topics = vec![TopicPattern::new("t").unwrap()];
    SubscriptionSpec { lease: None, buffer: 4, ..SubscriptionSpec::new(Name::new("g").unwrap(), Name::new(name).unwrap(), topics) }
}

async fn open(broker: &MemoryBroker, spec: &SubscriptionSpec) -> Arc<dyn Consumer> {
    broker.subscribe(spec).await.unwrap()
}

fn message(number: usize) -> Message {
    Message::new(Topic::from_static("t"), 1, Payload::from_bytes(number.to_string()))
}

fn keyed(key: &str, number: usize) -> Message {
    message(number).with_key(Some(key.into()))
}

fn to(topic: &'static str, number: usize) -> Message {
    Message::new(Topic::from_static(topic), 1, Payload::from_bytes(number.to_string()))
}

fn number(message: &Message) -> usize {
    String::from_utf8(message.payload().to_bytes().unwrap().to_vec()).unwrap().parse().unwrap()
}

fn numbers(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(|delivery| number(&delivery.message)).collect()
}

fn outgoing(message: Message) -> Outgoing {
    Outgoing { messages: Messages::One(message), delay: Duration::ZERO, origin: None }
}

fn many(messages: impl IntoIterator<Item = Message>) -> Outgoing {
    Outgoing { messages: Messages::Many(messages.into_iter().collect()), delay: Duration::ZERO, origin: None }
}

async fn publish(broker: &MemoryBroker, message: Message) -> u64 {
    broker.publish(outgoing(message)).await.unwrap().deliveries
}

/// What can be received at once.
async fn receive(consumer: &Arc<dyn Consumer>, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(Duration::ZERO, consumer.receive(0, max, Vec::new())).await.map_or_else(|_| Vec::new(), Result::unwrap)
}

/// The next one, however long it takes.
async fn next(consumer: &Arc<dyn Consumer>) -> Delivery {
    consumer.receive(0, 1, Vec::new()).await.unwrap().pop().unwrap()
}

async fn settle(consumer: &Arc<dyn Consumer>, delivery: Delivery, verdict: Verdict) -> Settled {
    consumer.settle(vec![Settlement { delivery, verdict }]).await
}

async fn ack(consumer: &Arc<dyn Consumer>, delivery: Delivery) {
    let settled = settle(consumer, delivery, Verdict::Ack).await;
    assert!(settled.lost.is_empty() && settled.failed.is_empty(), "{settled:?}");
}

fn failure(attempt: u32) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Error, attempt, format!("failure {attempt}")))
}

fn retry(after: u64, attempt: u32) -> Verdict {
    Verdict::Retry { after: Duration::from_millis(after), failure: failure(attempt) }
}

fn dead(attempt: u32) -> Verdict {
    Verdict::DeadLetter { failure: failure(attempt) }
}

fn release() -> Verdict {
    Verdict::Release { after: Duration::ZERO }
}

fn kind<T: std::fmt::Debug>(answer: Result<T, impl Into<Error>>) -> ErrorKind {
    answer.map_err(Into::into).unwrap_err().kind()
}

/// Lets all other tasks run until they wait.
async fn let_others_run() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Polls once, whatever comes of it.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}
