//! Making sure that a subscription exists: its record, and one durable consumer.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Fault, NO_CONSUMER};
use super::names::{Names, Place};
use super::record::{Table, settle};
use super::server::Server;
use crate::topic::TopicPattern;

/// What a consumer says of itself, as far as it matters.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    config: Config,
    pub(super) ack_floor: Floor,
    pub(super) num_ack_pending: u64,
    num_waiting: u64,
    pub(super) num_pending: u64,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    filter_subject: String,
    ack_wait: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Floor {
    pub(super) stream_seq: u64,
}

pub(super) async fn info(server: &Server, names: &Names, place: &Place) -> Result<Info, Fault> {
    server.api(format!("CONSUMER.INFO.{}.{}", names.events, place.consumer), &Value::Null).await
}

/// How long the server waits for a verdict: a little longer than those who hold a delivery believe, for it counts from earlier.
pub(super) fn ack_wait(lease: Duration) -> Duration {
    lease + (lease / 4).clamp(Duration::from_millis(250), Duration::from_secs(2))
}

/// Makes sure of it, and answers what it takes.
pub(super) async fn subscribe(
    server: &Server,
    names: &Names,
    place: &Place,
    topics: &[TopicPattern],
    lease: Duration,
) -> Result<Table, Fault> {
    loop {
        let table = settle(server, names, place, topics).await?;
        make(server, names, place, &table, lease).await?;
        // Whoever changed the record meanwhile may have made the consumer before us.
        match super::record::read(server, names, place).await? {
            Some((standing, _)) if standing.record == table.record => return Ok(standing),
            _ => {}
        }
    }
}

/// Makes the consumer, or changes it to what the record needs.
pub(super) async fn make(server: &Server, names: &Names, place: &Place, table: &Table, lease: Duration) -> Result<(), Fault> {
    let (filter, mut wait) = (table.filter(names), u64::try_from(ack_wait(lease).as_nanos()).unwrap_or(u64::MAX));
    match info(server, names, place).await {
        Err(fault) if fault.is(NO_CONSUMER) => {}
        Err(fault) => return Err(fault),
        Ok(info) => {
            if info.num_ack_pending > 0 || info.num_waiting > 0 {
                // Somebody relies on the longer time.
                wait = wait.max(info.config.ack_wait);
            }
            if info.config.filter_subject == filter && info.config.ack_wait == wait {
                return Ok(());
            }
        }
    }
    let request = json!({
        "stream_name": names.events,
        "config": {
            "durable_name": place.consumer,
            "description": format!("abe-events {}/{}", place.group, place.name),
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": table.record.start,
            "ack_policy": "explicit",
            "ack_wait": wait,
            "max_deliver": -1,
            // What waits for its time counts, too; how much is handed out is bounded where it is asked for.
            "max_ack_pending": -1,
            "filter_subject": filter,
            "replay_policy": "instant",
        }
    });
    let made = server.api::<Value>(format!("CONSUMER.DURABLE.CREATE.{}.{}", names.events, place.consumer), &request).await;
    made.map(drop)
}
