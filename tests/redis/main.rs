//! The Redis broker from outside: servers that die and fall silent, answers that are lost, what other clients and operators do.

mod failing;
mod foreign;
mod operator;
mod program;
mod promises;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod server;

use std::time::Duration;

use abe_events::broker::redis::{__redis as client, RedisBroker};
use abe_events::broker::{
    Broker, Consumer, Delivery, Failure, FailureKind, Messages, Outgoing, Settled, Settlement, SubscriptionSpec, Verdict,
};
use abe_events::{Error, Message, Name, Payload, Result, Topic, TopicPattern};
use tokio::time::timeout;

use self::server::Server;

/// How long anything may take on a loaded machine; nothing waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it is listened for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

fn spec(name: &str, topics: &[&str]) -> Result<SubscriptionSpec> {
    let topics = topics.iter().map(|topic| TopicPattern::new(topic)).collect::<Result<_>>()?;
    let mut spec = SubscriptionSpec::new(Name::new("shop")?, Name::new(name)?, topics);
    spec.unsettled_max = 10_000;
    Ok(spec)
}

fn message(topic: &'static str, text: impl ToString) -> Message {
    Message::new(Topic::from_static(topic), 1, Payload::from_bytes(text.to_string().into_bytes()))
}

fn order(text: impl ToString) -> Message {
    message("order.created", text)
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload().to_bytes().unwrap_or_default()).into_owned()
}

async fn open(url: &str) -> Result<RedisBroker> {
    RedisBroker::builder(url)?.open().await
}

async fn publish(broker: &dyn Broker, messages: Vec<Message>) -> Result<u64> {
    let outgoing = Outgoing { messages: Messages::Many(messages), delay: Duration::ZERO, origin: None };
    Ok(broker.publish(outgoing).await.map_err(Error::from)?.deliveries)
}

async fn take(consumer: &dyn Consumer, max: usize) -> Result<Vec<Delivery>> {
    timeout(PATIENCE, consumer.receive(0, max, Vec::new())).await.map_err(|_late| Error::msg("nothing came"))?
}

async fn take_one(consumer: &dyn Consumer) -> Result<Delivery> {
    take(consumer, 1).await?.pop().ok_or_else(|| Error::msg("an empty answer"))
}

async fn nothing_comes(consumer: &dyn Consumer) {
    if let Ok(got) = timeout(SILENCE, consumer.receive(0, 1, Vec::new())).await {
        panic!("nothing was due: {got:?}");
    }
}

async fn settle(consumer: &dyn Consumer, delivery: Delivery, verdict: Verdict) -> Settled {
    consumer.settle(vec![Settlement { delivery, verdict }]).await
}

/// Settles one, which must be carried out.
async fn settle_well(consumer: &dyn Consumer, delivery: Delivery, verdict: Verdict) {
    let settled = settle(consumer, delivery, verdict).await;
    assert!(settled.failed.is_empty() && settled.lost.is_empty(), "{settled:?}");
}

fn failure(attempt: u32, text: &str) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Error, attempt, text))
}

/// Takes and acks until `count` messages came.
async fn drain(consumer: &dyn Consumer, count: usize) -> Result<Vec<Message>> {
    let mut all: Vec<Message> = Vec::new();
    while all.len() < count {
        for delivery in take(consumer, 100).await? {
            all.push(delivery.message.clone());
            settle_well(consumer, delivery, Verdict::Ack).await;
        }
    }
    Ok(all)
}

/// Another client of the server.
async fn other(server: &Server) -> Result<client::aio::MultiplexedConnection> {
    let client = client::Client::open(server.address()).map_err(Error::from)?;
    client.get_multiplexed_async_connection().await.map_err(Error::from)
}

/// One command of another client.
async fn say<T: client::FromRedisValue>(server: &Server, words: &[&[u8]]) -> Result<T> {
    let mut command = client::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(&mut other(server).await?).await.map_err(Error::from)
}

/// The prefix of the keys of a URL.
fn prefix_of(url: &str) -> String {
    format!("{{{}}}", url.split_once("prefix=").map_or("", |(_, rest)| rest.split('&').next().unwrap_or(rest)))
}
