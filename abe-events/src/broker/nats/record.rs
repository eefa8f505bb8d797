//! What a subscription takes: kept on the server, so that every process knows, also of what it took before.
//!
//! On a server of version 2.9 a consumer has one filter. With several topics it is as wide as they need, and what nobody asked
//! for is acked unseen; so it must be certain which message was asked for. Each pattern therefore tells from which message on
//! it holds, and one that was given up until which.

use serde::{Deserialize, Serialize};

use super::error::{Fault, NO_CONSUMER, WRONG_LAST};
use super::names::{Names, Place};
use super::server::Server;
use super::streams;
use crate::error::Result;
use crate::topic::{Name, TopicPattern};

/// A pattern, and for which messages it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    pattern: String,
    from: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// The record of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    group: String,
    name: String,
    /// The first message it may get.
    pub(super) start: u64,
    topics: Vec<Taken>,
}

/// Whether a message is a subscription's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Its,
    Not,
    /// The record may have changed since it was read.
    Unsure,
}

/// A record, and up to which message it tells everything.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) record: Record,
    patterns: Vec<(TopicPattern, u64, u64)>,
    known_to: u64,
}

impl Table {
    pub(super) fn new(record: Record, known_to: u64) -> Self {
        let pattern = |taken: &Taken| TopicPattern::new(&taken.pattern).ok().map(|p| (p, taken.from, taken.until.unwrap_or(u64::MAX)));
        Self { patterns: record.topics.iter().filter_map(pattern).collect(), record, known_to }
    }

    /// Whether a message with this topic and number is the subscription's.
    pub(super) fn whose(&self, topic: &str, sequence: u64) -> Whose {
        if self.patterns.iter().any(|(pattern, from, until)| (*from..=*until).contains(&sequence) && pattern.matches(topic)) {
            return Whose::Its;
        }
        if sequence <= self.known_to { Whose::Not } else { Whose::Unsure }
    }

    /// Whether it takes what is published now under a topic.
    pub(super) fn takes(&self, topic: &str) -> bool {
        self.patterns.iter().any(|(pattern, _, until)| *until == u64::MAX && pattern.matches(topic))
    }

    pub(super) fn filter(&self, names: &Names) -> String {
        names.filter(self.patterns.iter().map(|(pattern, ..)| pattern))
    }

    pub(super) fn place(&self) -> Result<Place> {
        Ok(Place::new(&Name::new(&self.record.group)?, &Name::new(&self.record.name)?))
    }
}

impl Record {
    fn new(place: &Place, wanted: &[TopicPattern], last: u64) -> Self {
        let taken = |pattern: &TopicPattern| Taken { pattern: pattern.as_str().to_owned(), from: last + 1, until: None };
        let topics = wanted.iter().map(taken).collect();
        Self { group: place.group.to_string(), name: place.name.to_string(), start: last + 1, topics }
    }

    /// The record of the newest consumer's wishes; `floor` is the last message up to which all have ended.
    fn changed(&self, wanted: &[TopicPattern], last: u64, floor: u64) -> Self {
        let is_wanted = |taken: &Taken| wanted.iter().any(|pattern| pattern.as_str() == taken.pattern);
        let mut topics: Vec<Taken> = self.topics.clone();
        for taken in topics.iter_mut().filter(|taken| taken.until.is_none() && !is_wanted(taken)) {
            taken.until = Some(last);
        }
        topics.retain(|taken| taken.until.is_none_or(|until| until > floor));
        for pattern in wanted {
            if !topics.iter().any(|taken| taken.until.is_none() && taken.pattern == pattern.as_str()) {
                topics.push(Taken { pattern: pattern.as_str().to_owned(), from: last + 1, until: None });
            }
        }
        Self { topics, ..self.clone() }
    }
}

/// The record as it stands, and its number.
pub(super) async fn read(server: &Server, names: &Names, place: &Place) -> Result<Option<(Table, u64)>, Fault> {
    // First the number, so that whatever changes between the two holds only for later messages.
    let known_to = streams::info(server, &names.events).await?.state.last_seq;
    let Some(found) = server.last(&names.state, names.record(place)).await? else { return Ok(None) };
    let record = serde_json::from_slice(&found.payload).map_err(|_| Fault::Unsent("the record of a subscription cannot be read"))?;
    Ok(Some((Table::new(record, known_to), found.sequence)))
}

/// Brings the record up to what is wanted; the newest consumer decides.
pub(super) async fn settle(server: &Server, names: &Names, place: &Place, wanted: &[TopicPattern]) -> Result<Table, Fault> {
    loop {
        let standing = read(server, names, place).await?;
        let last = match &standing {
            Some((table, _)) => table.known_to,
            None => streams::info(server, &names.events).await?.state.last_seq,
        };
        let (record, revision) = match &standing {
            None => (Record::new(place, wanted, last), 0),
            Some((table, revision)) => {
                let floor = floor(server, names, place).await?;
                let changed = table.record.changed(wanted, last, floor);
                if changed == table.record {
                    return Ok(table.clone());
                }
                (changed, *revision)
            }
        };
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, async_nats::HeaderValue::from(revision));
        let payload = serde_json::to_vec(&record).map_err(|_| Fault::Unsent("the record of a subscription cannot be written"))?;
        match server.store(names.record(place), Some(headers), payload.into()).await {
            Ok(_) => return Ok(Table::new(record, last)),
            // Somebody else has just changed it.
            Err(fault) if fault.is(WRONG_LAST) => {}
            Err(fault) => return Err(fault),
        }
    }
}

async fn floor(server: &Server, names: &Names, place: &Place) -> Result<u64, Fault> {
    match super::subscribe::info(server, names, place).await {
        Ok(info) => Ok(info.ack_floor.stream_seq),
        Err(fault) if fault.is(NO_CONSUMER) => Ok(0),
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<TopicPattern> {
        texts.iter().map(|text| TopicPattern::new(text).unwrap()).collect()
    }

    #[test]
    fn a_topic_counts_from_when_it_was_taken_until_it_was_given_up() {
        let place = Place::new(&Name::new("g").unwrap(), &Name::new("n").unwrap());
        let record = Record::new(&place, &patterns(&["a", "b"]), 10);
        let record = record.changed(&patterns(&["b", "c"]), 20, 5);
        let table = Table::new(record.clone(), 30);
        for (topic, sequence, whose) in [
            ("a", 10, Whose::Not),
            ("a", 11, Whose::Its),
            ("a", 20, Whose::Its),
            ("a", 21, Whose::Not),
            ("b", 25, Whose::Its),
            ("c", 20, Whose::Not),
            ("c", 21, Whose::Its),
            ("d", 30, Whose::Not),
            ("d", 31, Whose::Unsure),
        ] {
            assert_eq!(table.whose(topic, sequence), whose, "{topic} {sequence}");
        }
        assert!(!table.takes("a") && table.takes("b") && table.takes("c"));
        // When all that was there has ended, what was given up is forgotten; taken again, it counts from now on.
        let later = record.changed(&patterns(&["a", "b"]), 40, 20);
        let table = Table::new(later, 50);
        assert_eq!((table.whose("a", 20), table.whose("a", 41), table.whose("c", 40)), (Whose::Not, Whose::Its, Whose::Its));
    }
}
