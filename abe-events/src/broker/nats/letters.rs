//! Dead letters: each a message as it came, in a stream of their own, and beside it what is told of it.

use std::time::{Duration, UNIX_EPOCH};

use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::failures::failures_of;
use super::super::{DeadLetter, DeadLetterFilter};
use super::error::Fault;
use super::names::Place;
use super::read::{ADDRESS, DELAY, ID, Raw, insert, passive};
use super::settle::Held;
use super::{Shared, record, streams};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{Name, TopicPattern};

/// What is told of a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    group: String,
    name: String,
    /// The topic as its subject had it, and its number and time in the stream.
    topic: String,
    sequence: u64,
    time_ms: u64,
    attempts: u32,
    at_ms: u64,
    failures: String,
}

/// A dead letter where it stands.
struct Letter {
    number: u64,
    told: Option<u64>,
    raw: Raw,
    letter: DeadLetter,
}

/// Dead letters that are meant, one after another, oldest first.
struct Meant<'a> {
    shared: &'a Shared,
    filter: &'a DeadLetterFilter,
    subject: String,
    from: u64,
    last: u64,
    count: u64,
}

impl Meant<'_> {
    async fn next(&mut self) -> Result<Option<Letter>> {
        let limit = self.filter.limit as u64;
        while limit == 0 || self.count < limit {
            let (server, names) = (&self.shared.server, &self.shared.names);
            let next = server.next(&names.dead, self.subject.clone(), self.from).await.map_err(|fault| fault.failed())?;
            let Some(found) = next.filter(|found| found.sequence <= self.last) else { break };
            self.from = found.sequence + 1;
            match self.shared.letter(found).await.map_err(|fault| fault.failed())? {
                Ok(letter) if self.filter.matches(&letter.letter) => {
                    self.count += 1;
                    return Ok(Some(letter));
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "a stored dead letter cannot be read"),
            }
        }
        Ok(None)
    }
}

/// Stores a message that failed for good: first what is told of it, then the message, whose being there makes it a dead letter.
pub(super) async fn bury(shared: &Shared, place: &Place, held: &Held, failures: String, at_ms: u64) -> Result<(), Fault> {
    let raw = &held.raw;
    let told = Told {
        group: place.group.to_string(),
        name: place.name.to_string(),
        topic: raw.topic.clone(),
        sequence: raw.sequence,
        time_ms: raw.time_ms,
        attempts: held.attempt,
        at_ms,
        failures,
    };
    let (letter, beside) = shared.names.letter(place, &held.id);
    let told = serde_json::to_vec(&told).map(Bytes::from).map_err(|_| Fault::Unsent("a dead letter cannot be written"))?;
    shared.server.store(beside, None, told).await?;
    shared.server.store(letter, Some(passive(&raw.headers, &[])), raw.payload.clone()).await.map(drop)
}

impl Shared {
    pub(super) async fn letter_count(&self) -> Result<u64, Fault> {
        Ok(streams::info(&self.server, &self.names.dead).await?.state.messages)
    }

    /// Those meant, up to the newest there is now: what dies meanwhile is not meant.
    async fn letters<'a>(&'a self, filter: &'a DeadLetterFilter) -> Result<Meant<'a>> {
        let last = streams::info(&self.server, &self.names.dead).await.map_err(|fault| fault.failed())?.state.last_seq;
        let subject = self.names.letters(filter.subscription.as_ref(), filter.id.as_ref());
        Ok(Meant { shared: self, filter, subject, from: 0, last, count: 0 })
    }

    async fn letter(&self, found: StreamMessage) -> Result<Result<Letter>, Fault> {
        let Some(beside) = self.names.told_of(&found.subject) else {
            return Ok(Err(Error::new(ErrorKind::Decode, "its subject is none of ours")));
        };
        let told = self.server.last(&self.names.state, beside).await?;
        Ok(read(found, told))
    }

    pub(super) async fn list_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>> {
        let (mut meant, mut list) = (self.letters(filter).await?, Vec::new());
        while let Some(letter) = meant.next().await? {
            list.push(letter.letter);
        }
        Ok(list)
    }

    pub(super) async fn purge_letters(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let mut meant = self.letters(filter).await?;
        while let Some(letter) = meant.next().await? {
            self.remove(&letter).await?;
        }
        Ok(meant.count)
    }

    /// Hands those meant back to their subscriptions; each leaves the letters once it is stored.
    pub(super) async fn replay_letters(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let mut meant = self.letters(filter).await?;
        while let Some(letter) = meant.next().await? {
            self.replay(&letter).await?;
            self.remove(&letter).await?;
        }
        Ok(meant.count)
    }

    async fn remove(&self, letter: &Letter) -> Result<()> {
        self.server.delete(&self.names.dead, letter.number).await.map_err(|fault| fault.failed())?;
        if let Some(told) = letter.told {
            // Without its letter it is of no use and does no harm.
            let _ = self.server.delete(&self.names.state, told).await;
        }
        Ok(())
    }

    async fn replay(&self, letter: &Letter) -> Result<()> {
        let place = Place::new(&letter.letter.group, &letter.letter.subscription);
        self.must_reach(&place, &letter.raw.topic).await?;
        // The whole of its delay has passed.
        let mut headers = passive(&letter.raw.headers, &[DELAY, ADDRESS, ID]);
        insert(&mut headers, ADDRESS, place.address())?;
        // A replay that is asked for again stores nothing twice.
        insert(&mut headers, "Nats-Msg-Id", &format!("replay:{}:{}", letter.number, letter.letter.message.time_ms()))?;
        // One that came without an id keeps the one it got.
        insert(&mut headers, ID, &crate::wire::encode_header_value(&letter.letter.message.id().to_string()))?;
        let subject = format!("{}.{}", self.names.events, letter.raw.topic);
        self.server.store(subject, Some(headers), letter.raw.payload.clone()).await.map_err(|fault| fault.failed())?;
        if let Some(live) = self.live(&place) {
            live.published(letter.raw.payload.len());
        }
        Ok(())
    }

    /// A subscription that is gone, or takes something else now, would never get it.
    async fn must_reach(&self, place: &Place, topic: &str) -> Result<()> {
        super::subscribe::info(&self.server, &self.names, place).await.map_err(|fault| {
            fault.failed().context(format_args!("subscription {}/{} cannot get its dead letters back", place.group, place.name))
        })?;
        let found = record::read(&self.server, &self.names, place).await.map_err(|fault| fault.failed())?;
        let filter = found.map(|(table, _)| table.filter(&self.names)).unwrap_or_default();
        let covers = self.names.topic_of(&filter).and_then(|filter| TopicPattern::new(filter).ok()).is_some_and(|p| p.matches(topic));
        if covers {
            return Ok(());
        }
        let text =
            format!("subscription {}/{} no longer takes {topic}: subscribe to it again, or purge the letter", place.group, place.name);
        Err(Error::new(ErrorKind::Broker, text))
    }
}

fn read(found: StreamMessage, told: Option<StreamMessage>) -> Result<Letter> {
    let missing = || Error::new(ErrorKind::Decode, "what is told of it is missing");
    let (told, beside) = told.map(|told| (told.payload, told.sequence)).ok_or_else(missing)?;
    let told: Told = serde_json::from_slice(&told).map_err(|_| missing())?;
    let raw = Raw { topic: told.topic, headers: found.headers, payload: found.payload, sequence: told.sequence, time_ms: told.time_ms };
    let message = raw.message().or_else(|_| raw.as_bytes())?;
    let letter = DeadLetter {
        group: Name::new(&told.group)?,
        subscription: Name::new(&told.name)?,
        message,
        attempts: told.attempts,
        failures: failures_of(&told.failures),
        at: UNIX_EPOCH + Duration::from_millis(told.at_ms),
    };
    Ok(Letter { number: found.sequence, told: Some(beside), raw, letter })
}
