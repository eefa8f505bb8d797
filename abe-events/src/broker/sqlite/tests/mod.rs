//! What only the inside can see: plans of statements, commits, tokens, and what is left in the tables.

mod cost;
mod delivery;
mod faults;

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::super::{
    Broker, Consumer, DeadLetterFilter, DeadLetters, Delivery, Failure, FailureKind, Messages, Outgoing, Settlement, SubscriptionSpec,
    Verdict,
};
use super::claim::{BACKLOG, DUE, EXPIRED, NEXT_DUE, NEXT_UNTIL};
use super::*;
use crate::message::{Message, Payload};
use crate::topic::{Name, Topic, TopicPattern};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("abe-events-sqlite-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("events.db")
    }

    fn open(&self) -> SqliteBroker {
        SqliteBroker::builder(self.file()).open().unwrap()
    }

    fn look(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
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

fn outgoing(messages: Vec<Message>, delay: Duration) -> Outgoing {
    Outgoing { messages: Messages::Many(messages), delay, origin: None }
}

async fn publish(broker: &SqliteBroker, messages: &[Message]) {
    broker.publish(outgoing(messages.to_vec(), Duration::ZERO)).await.unwrap();
}

async fn take(consumer: &dyn Consumer, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(Duration::from_secs(10), consumer.receive(0, max, Vec::new())).await.expect("a delivery in time").unwrap()
}

fn acks(deliveries: Vec<Delivery>) -> Vec<Settlement> {
    deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Every table that holds messages is empty: nothing is left of what has ended.
fn assert_empty(connection: &Connection) {
    for table in ["abe_message", "abe_sharing", "abe_backlog", "abe_lease", "abe_delivery"] {
        assert_eq!(count(connection, table), 0, "{table}");
    }
    let counters = "SELECT pending, unsettled, delayed, bytes FROM abe_subscription";
    let mut statement = connection.prepare(counters).unwrap();
    let rows = statement.query_map([], |row| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?])).unwrap();
    for row in rows {
        assert_eq!(row.unwrap(), [0_i64; 4]);
    }
}
