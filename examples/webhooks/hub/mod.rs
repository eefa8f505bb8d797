//! The hub: payloads come in as bytes and are published; handlers share them; every one is accounted for.

mod contracts;
mod handlers;
mod http;
mod report;
#[path = "../../support/mod.rs"]
mod support;
mod tally;

use std::sync::Arc;

use abe_events::{Id, Incoming, Message, Payload, Result, Runtime, Topic};
use serde_json::value::RawValue;

use self::contracts::Activity;
pub(crate) use self::report::Report;
use self::support::settled;
use self::tally::Tally;

/// A running hub.
#[derive(Clone)]
pub(crate) struct Hub {
    runtime: Runtime,
    tally: Arc<Tally>,
}

/// A line of a file of payloads. The payload stays as it was written: nothing is decoded before a handler wants it.
#[derive(serde::Deserialize)]
struct Line<'a> {
    event: &'a str,
    /// The version of our contract, for what an older relay kept.
    version: Option<u32>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Hub {
    /// Starts the handlers.
    pub(crate) async fn start() -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let runtime = Runtime::builder().group("hub").shared_state(tally.clone()).start().await?;
        Ok(Self { runtime, tally })
    }

    /// Publishes a payload as it came. The delivery's id becomes the event's, so that a redelivery is recognised.
    pub(crate) async fn publish(&self, kind: &str, version: Option<u32>, delivery: Option<&str>, payload: Vec<u8>) -> Result<Id> {
        let topic = Topic::new(&format!("github.{kind}"))?;
        // GitHub's payloads have no version: they are of the newest contract we know.
        let newest = Activity::contracts().iter().find(|contract| contract.topic == topic.as_str()).map_or(1, |contract| contract.version);
        let mut message = Message::new(topic, version.unwrap_or(newest), Payload::from_bytes(payload));
        if let Some(delivery) = delivery {
            message = message.with_id(delivery.parse()?);
        }
        self.runtime.publish_message(message).await
    }

    /// Publishes a file of `{"event": NAME, "payload": {...}}` lines, and answers how many there were.
    pub(crate) async fn publish_lines(&self, text: &str) -> Result<u64> {
        let mut lines = 0;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let Line { event, version, payload } = serde_json::from_str(line)?;
            self.publish(event, version, None, payload.get().as_bytes().to_vec()).await?;
            lines += 1;
        }
        Ok(lines)
    }

    /// Waits until every payload has ended, stops, and tells what became of them.
    pub(crate) async fn finish(self) -> Result<Report> {
        settled(&self.runtime).await;
        let dead = self.runtime.dead_letters().list(&Default::default()).await?;
        self.runtime.stop().await;
        Ok(Report::new(&self.runtime.monitor(), &self.tally, &dead))
    }
}
