//! Publishing: sent in order, many at once, and each answered before it counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::{Outgoing, PublishFailure, Published};
use super::Shared;
use super::error::Fault;
use super::read::{DELAY, bytes_of, headers_of, insert};
use super::record::Table;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;

/// How old the knowledge of who subscribes may be before somebody is told that nobody does.
const FRESH: Duration = Duration::from_secs(5);

/// Who subscribes, for the number of deliveries; who gets what is decided by the server alone.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    tables: HashMap<String, Arc<Table>>,
    read: Option<Instant>,
}

impl Routes {
    pub(super) fn insert(&self, consumer: &str, table: Arc<Table>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tables.insert(consumer.to_owned(), table);
    }

    fn count(&self, topic: &str) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.tables.values().filter(|table| table.takes(topic)).count() as u64
    }

    fn is_fresh(&self) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.read.is_some_and(|read| read.elapsed() < FRESH)
    }

    fn set(&self, tables: HashMap<String, Arc<Table>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known { tables, read: Some(Instant::now()) };
    }
}

/// A message on its way.
struct Ready {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    topic: String,
}

impl Shared {
    fn prepared(&self, message: &Message, delay: Duration) -> Result<Ready> {
        let payload = message.payload().to_bytes()?;
        let mut headers = headers_of(message)?;
        if !delay.is_zero() {
            let millis = delay.as_nanos().div_ceil(1_000_000);
            insert(&mut headers, DELAY, &millis.to_string())?;
        }
        let (bytes, max) = (bytes_of(&headers, payload.len()), self.server.message_bytes_max());
        if payload.len() > self.payload_bytes_max || bytes > max {
            let text = format!(
                "message {} has {} bytes of payload and {bytes} in all; the nats server takes {max} in all (`max_payload`), of which the payload may be {}",
                message.id(),
                payload.len(),
                self.payload_bytes_max
            );
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        Ok(Ready { subject: self.names.topic(message.topic()), headers, payload, topic: message.topic().to_string() })
    }

    pub(super) async fn publish(&self, outgoing: Outgoing) -> Result<Published, PublishFailure> {
        let none = |error| PublishFailure { stored: 0, error };
        let messages = outgoing.messages.as_slice();
        // One that cannot be sent stops the call before anything is.
        let ready = messages.iter().map(|message| self.prepared(message, outgoing.delay)).collect::<Result<Vec<Ready>>>().map_err(none)?;
        if ready.is_empty() {
            return Ok(Published::default());
        }
        self.server.ready().await.map_err(|fault| none(fault.published()))?;
        let mut sent = Vec::with_capacity(ready.len());
        let mut told = Vec::with_capacity(ready.len());
        for Ready { subject, headers, payload, topic } in ready {
            told.push((topic, payload.len()));
            sent.push(self.server.send(subject, headers, payload).await);
        }
        let deadline = Instant::now() + self.server.timeout;
        let (mut stored, mut first, mut beyond) = (0, None, false);
        for sent in sent {
            let came = match sent {
                Ok(ack) => self.server.stored(ack, deadline).await,
                Err(fault) => Err(fault),
            };
            match (came, &first) {
                (Ok(_), None) => stored += 1,
                (Err(fault), None) => first = Some(fault),
                (Ok(_) | Err(Fault::Cut), Some(_)) => beyond = true,
                (Err(_), Some(_)) => {}
            }
        }
        for (topic, bytes) in &told[..stored] {
            self.note_published(topic, *bytes);
        }
        match first {
            Some(fault) => {
                let mut error = fault.published();
                if beyond && error.kind() != ErrorKind::Unknown {
                    error = Error::new(ErrorKind::Unknown, format!("{error}, and messages behind it may be stored"));
                }
                Err(PublishFailure { stored, error })
            }
            None => Ok(Published { deliveries: self.deliveries(&told).await }),
        }
    }

    fn note_published(&self, topic: &str, bytes: usize) {
        for live in self.lives().iter().filter(|live| live.table().takes(topic)) {
            live.published(bytes);
        }
    }

    /// How many deliveries these are, as far as is known.
    async fn deliveries(&self, told: &[(String, usize)]) -> u64 {
        let count = |topic: &String| self.routes.count(topic);
        if told.iter().any(|(topic, _)| count(topic) == 0) && !self.routes.is_fresh() {
            // They are stored, whoever takes them.
            let _ = self.read_routes().await;
        }
        told.iter().map(|(topic, _)| count(topic)).sum()
    }

    /// Reads who subscribes.
    pub(super) async fn read_routes(&self) -> Result<(), Fault> {
        let (mut tables, mut from) = (HashMap::new(), 0);
        while let Some(found) = self.server.next(&self.names.state, self.names.all_records(), from).await? {
            from = found.sequence + 1;
            if let Ok(record) = serde_json::from_slice(&found.payload) {
                let table = Table::new(record, 0);
                if let Ok(place) = table.place() {
                    tables.insert(place.consumer, Arc::new(table));
                }
            }
        }
        self.routes.set(tables);
        Ok(())
    }
}
