//! What only the inside can see: tokens, attempts, what is left in the tables, and every order of commits.

mod delivery;
mod interleave;
#[path = "../../../../../tests/support/postgres.rs"]
mod server;

use std::time::Duration;

use self::server::Server;
use super::super::{
    Broker, Consumer, DeadLetterFilter, Delivery, Failure, FailureKind, Messages, Outgoing, Settlement, SubscriptionSpec, Verdict,
};
use super::*;
use crate::message::{Message, Payload};
use crate::topic::{Name, Topic, TopicPattern};

/// A database of one test.
struct Ground {
    server: &'static Server,
    url: String,
}

impl Ground {
    /// `None` where there is no server; it has been said then.
    fn new(name: &str) -> Option<Self> {
        let server = Server::shared()?;
        Some(Self { server, url: server.database(name) })
    }

    /// The same, on a server that nobody else uses. It ends with the process.
    fn alone(name: &str) -> Option<Self> {
        let server: &'static Server = Box::leak(Box::new(Server::own()?));
        Some(Self { server, url: server.database(name) })
    }

    async fn open(&self) -> PostgresBroker {
        PostgresBroker::builder(&format!("{}?connections=6", self.url)).unwrap().open().await.unwrap()
    }

    fn sql(&self, statement: &str) -> String {
        self.server.sql(&self.url, statement)
    }

    fn assert_empty(&self) {
        for table in ["message", "sharing", "delivery"] {
            assert_eq!(self.sql(&format!("SELECT count(*) FROM abe_events.{table}")), "0", "{table}");
        }
    }
}

fn spec(name: &str, lease_ms: u64) -> SubscriptionSpec {
    let topics = vec![TopicPattern::new("order.>").unwrap()];
    let mut spec = SubscriptionSpec::new(Name::new("shop").unwrap(), Name::new(name).unwrap(), topics);
    spec.lease = Some(Duration::from_millis(lease_ms));
    spec.unsettled_max = 10_000;
    spec
}

fn message(key: Option<&str>) -> Message {
    Message::new(Topic::new("order.created").unwrap(), 1, Payload::from_bytes("{}")).with_key(key.map(Into::into))
}

fn outgoing(messages: Vec<Message>) -> Outgoing {
    Outgoing { messages: Messages::Many(messages), delay: Duration::ZERO, origin: None }
}

async fn take(consumer: &dyn Consumer, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(Duration::from_secs(60), consumer.receive(0, max, Vec::new())).await.expect("a delivery").unwrap()
}

fn acks(deliveries: Vec<Delivery>) -> Vec<Settlement> {
    deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()
}
