//! What our things are called on a server. Nothing becomes part of a subject that is not a checked name or encoded here.

use std::fmt::Write as _;

use crate::message::Id;
use crate::topic::{Name, Topic, TopicPattern};

/// How long the name of a consumer may be: the server makes a folder of it.
const CONSUMER_BYTES_MAX: usize = 200;

/// The streams of one installation, and the subjects in them.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The stream of events; their subjects are its name, a dot, and the topic.
    pub(super) events: String,
    /// The stream of dead letters, one subject for each subscription and id.
    pub(super) dead: String,
    /// The stream of what is known of subscriptions, attempts and dead letters, one message for each subject.
    pub(super) state: String,
}

impl Names {
    pub(super) fn new(stream: &str) -> Self {
        Self { events: stream.to_owned(), dead: format!("{stream}_dead"), state: format!("{stream}_state") }
    }

    /// The subject of a topic.
    pub(super) fn topic(&self, topic: &Topic) -> String {
        format!("{}.{topic}", self.events)
    }

    /// What a subject of the stream of events says behind the stream's name.
    pub(super) fn topic_of<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(self.events.as_str())?.strip_prefix('.')
    }

    /// One subject that covers all patterns.
    pub(super) fn filter<'a>(&self, patterns: impl Iterator<Item = &'a TopicPattern>) -> String {
        let patterns: Vec<Vec<&str>> = patterns.map(|pattern| pattern.as_str().split('.').collect()).collect();
        format!("{}.{}", self.events, covering(&patterns).join("."))
    }

    /// Where the record of a subscription stands.
    pub(super) fn record(&self, subscription: &Place) -> String {
        format!("{}.sub.{}", self.state, subscription.token)
    }

    pub(super) fn all_records(&self) -> String {
        format!("{}.sub.>", self.state)
    }

    /// Where it stands what happened to a message that did not end with its first delivery.
    pub(super) fn note(&self, subscription: &Place, sequence: u64) -> String {
        format!("{}.try.{}.{sequence}", self.state, subscription.token)
    }

    /// Where the time is asked for.
    pub(super) fn clock(&self) -> String {
        format!("{}.clock", self.state)
    }

    /// Where a dead letter stands, and what is told of it.
    pub(super) fn letter(&self, subscription: &Place, id: &Id) -> (String, String) {
        let id = token(&id.to_string());
        (format!("{}.{}.{id}", self.dead, subscription.token), format!("{}.dead.{}.{id}", self.state, subscription.token))
    }

    /// The subjects of dead letters that may be meant.
    pub(super) fn letters(&self, name: Option<&Name>, id: Option<&Id>) -> String {
        let name = name.map_or_else(|| "*".to_owned(), |name| plain(name.as_str()));
        let id = id.map_or_else(|| "*".to_owned(), |id| token(&id.to_string()));
        format!("{}.*.{name}.{id}", self.dead)
    }

    /// Where it stands what is told of a dead letter.
    pub(super) fn told_of(&self, letter: &str) -> Option<String> {
        Some(format!("{}.dead.{}", self.state, letter.strip_prefix(self.dead.as_str())?.strip_prefix('.')?))
    }
}

/// What a subscription is called on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: Name,
    pub(super) name: Name,
    /// Two tokens of a subject.
    token: String,
    /// Its consumer.
    pub(super) consumer: String,
}

impl Place {
    pub(super) fn new(group: &Name, name: &Name) -> Self {
        let token = format!("{}.{}", plain(group.as_str()), plain(name.as_str()));
        let mut consumer = token.replacen('.', "~", 1);
        if consumer.len() > CONSUMER_BYTES_MAX {
            consumer = format!("{}~{:032x}", &consumer[..CONSUMER_BYTES_MAX - 33], fnv(token.as_bytes()));
        }
        Self { group: group.clone(), name: name.clone(), token, consumer }
    }

    /// What a message that is meant for this subscription alone says.
    pub(super) fn address(&self) -> &str {
        &self.token
    }
}

/// A checked name as one token.
fn plain(name: &str) -> String {
    name.replace('.', "=")
}

/// Any text as one token.
fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

/// FNV-1a with 128 bits: tells long names apart, and nobody gains by making two that meet.
fn fnv(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

/// The narrowest pattern that covers all of them.
fn covering<'a>(patterns: &[Vec<&'a str>]) -> Vec<&'a str> {
    let mut covering: Vec<&str> = Vec::new();
    let Some(first) = patterns.first() else { return vec![">"] };
    for at in 0.. {
        let ended = patterns.iter().filter(|pattern| pattern.len() == at).count();
        if ended == patterns.len() {
            break;
        }
        if ended > 0 {
            // `>` stands for at least one segment, so it takes the place of the last one.
            covering.pop();
            covering.push(">");
            break;
        }
        if patterns.iter().any(|pattern| pattern[at] == ">") {
            covering.push(">");
            break;
        }
        let same = patterns.iter().all(|pattern| pattern[at] == first[at]);
        covering.push(if same { first[at] } else { "*" });
    }
    covering
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subject_covers_all_patterns_and_little_more() {
        let names = Names::new("shop");
        for (patterns, filter) in [
            (&["order.created"][..], "shop.order.created"),
            (&["order.created", "order.paid"], "shop.order.*"),
            (&["order.created", "user.created"], "shop.*.created"),
            (&["order", "order.created"], "shop.>"),
            (&["a.order", "a.order.created"], "shop.a.>"),
            (&["order.>", "order.eu.paid"], "shop.order.>"),
            (&["order.*", "order.eu"], "shop.order.*"),
            (&["*"], "shop.*"),
            (&[">"], "shop.>"),
        ] {
            let patterns: Vec<TopicPattern> = patterns.iter().map(|pattern| TopicPattern::new(pattern).unwrap()).collect();
            assert_eq!(names.filter(patterns.iter()), filter, "{patterns:?}");
        }
    }

    #[test]
    fn no_id_and_no_name_means_more_than_one_token() {
        let names = Names::new("shop");
        let place = Place::new(&Name::new("eu.shop").unwrap(), &Name::new("billing").unwrap());
        assert_eq!((place.consumer.as_str(), place.address()), ("eu=shop~billing", "eu=shop.billing"));
        for id in ["a.b", "*", ">", "a b", "$JS.API.STREAM.DELETE.shop", "72d3/é", "=2E"] {
            let (letter, told) = names.letter(&place, &id.parse().unwrap());
            assert_eq!(letter.split('.').count(), 4, "{letter}");
            assert!(letter.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=.".contains(&byte)), "{letter}");
            assert_eq!(names.told_of(&letter).unwrap(), told);
        }
        assert_ne!(token("=2E"), token("."));
        let long = Place::new(
            &Name::new(&["x".repeat(60), "y".repeat(60), "z".repeat(60)].join(".")).unwrap(),
            &Name::new(&"n".repeat(64)).unwrap(),
        );
        assert_eq!(long.consumer.len(), CONSUMER_BYTES_MAX);
    }
}
