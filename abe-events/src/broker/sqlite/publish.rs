//! Publishing: a message once, and a line in the queue of each subscription that takes it.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use tokio::sync::oneshot;

use super::super::stored::Stored;
use super::super::{PublishFailure, Published};
use super::error::Fault;
use super::state::Tx;
use super::writer::Work;
use crate::error::{Error, ErrorKind, Result};

/// The messages of one call: all are stored, or none.
pub(super) struct Publish {
    messages: Vec<Stored>,
    delay: Duration,
    published: Published,
    reply: oneshot::Sender<Result<Published, PublishFailure>>,
}

impl Publish {
    pub(super) fn new(messages: Vec<Stored>, delay: Duration, reply: oneshot::Sender<Result<Published, PublishFailure>>) -> Self {
        Self { messages, delay, published: Published::default(), reply }
    }
}

impl Work for Publish {
    fn weight(&self) -> usize {
        self.messages.iter().map(|message| usize::try_from(message.bytes()).unwrap_or(0)).sum()
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.published = Published::default();
        for message in &self.messages {
            self.published.deliveries += store(tx, message, self.delay)?;
        }
        Ok(())
    }

    fn answer(self: Box<Self>, mut outcome: Result<()>) {
        if crate::mutant::is("sqlite-refused-though-stored") && fastrand::u32(0..20) == 0 {
            outcome = Err(Error::new(ErrorKind::NotStored, "a mutant"));
        }
        // Nobody listens any more: the outcome is unknown to them, as the seam says.
        let _ = self.reply.send(outcome.map(|()| self.published).map_err(|error| PublishFailure { stored: 0, error }));
    }
}

/// Stores a message for all subscriptions that take it, and says how many.
fn store(tx: &mut Tx<'_>, message: &Stored, delay: Duration) -> Result<u64, Fault> {
    let route = tx.state.route(&message.topic);
    if route.is_empty() {
        return Ok(0);
    }
    let seq = insert_message(tx, message, route.len())?;
    for subscription in route.iter() {
        enqueue(tx, *subscription, seq, message, delay)?;
    }
    Ok(route.len() as u64)
}

/// Stores what is carried, for so many subscriptions.
pub(super) fn insert_message(tx: &Tx<'_>, message: &Stored, subscriptions: usize) -> Result<i64, Fault> {
    let sql =
        "INSERT INTO abe_message (id, topic, version, time_ms, key, attributes, payload, shared) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let seq = tx.connection.prepare_cached(sql)?.insert(params![
        message.id,
        message.topic.as_str(),
        message.version,
        message.time_ms,
        message.key.as_deref(),
        message.attributes,
        &message.payload[..],
        subscriptions > 1
    ])?;
    if subscriptions > 1 {
        let remaining = i64::try_from(subscriptions).unwrap_or(i64::MAX);
        tx.connection.prepare_cached("INSERT INTO abe_sharing (seq, remaining) VALUES (?1, ?2)")?.execute([seq, remaining])?;
    }
    Ok(seq)
}

/// Puts a message into a subscription's queue.
pub(super) fn enqueue(tx: &mut Tx<'_>, subscription: i64, seq: i64, message: &Stored, delay: Duration) -> Result<(), Fault> {
    let row = tx.state.change(subscription)?;
    row.pending += 1;
    row.accepted += 1;
    row.bytes += message.bytes();
    let ordered = row.ordered;
    if !delay.is_zero() && !crate::mutant::is("sqlite-delay-ignored") {
        row.delayed += 1;
        let due = tx.after(delay);
        let sql = "INSERT INTO abe_delivery (subscription, seq, due, delayed, attempts) VALUES (?1, ?2, ?3, 1, 0)";
        tx.connection.prepare_cached(sql)?.execute([subscription, seq, due])?;
        tx.wake_at(subscription, due);
        return Ok(());
    }
    match message.key.as_deref().filter(|_| ordered) {
        None => {
            let sql = "INSERT INTO abe_backlog (subscription, seq) VALUES (?1, ?2)";
            tx.connection.prepare_cached(sql)?.execute([subscription, seq])?;
        }
        Some(key) => {
            let due = (!is_busy(tx, subscription, key)?).then_some(tx.now);
            let sql = "INSERT INTO abe_delivery (subscription, seq, due, delayed, attempts, key) VALUES (?1, ?2, ?3, 0, 0, ?4)";
            tx.connection.prepare_cached(sql)?.execute(params![subscription, seq, due, key])?;
        }
    }
    tx.wake(subscription);
    Ok(())
}

/// Whether a message stands in line for a key: ready, handed out, or waiting for its retry.
pub(super) fn is_busy(tx: &Tx<'_>, subscription: i64, key: &str) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM abe_delivery WHERE subscription = ?1 AND key = ?2 LIMIT 1";
    let found: Option<i64> = tx.connection.prepare_cached(sql)?.query_row(params![subscription, key], |row| row.get(0)).optional()?;
    Ok(found.is_some())
}
