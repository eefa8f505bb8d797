//! What became of the payloads, by kind, and whether the numbers add up.

use std::fmt;

use abe_events::broker::DeadLetter;
use abe_events::runtime::Monitor;

use super::tally::Tally;

/// The numbers at the end.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) published: u64,
    pub(crate) handled: u64,
    /// Not wanted by the one handler that could have handled them.
    pub(crate) filtered: u64,
    pub(crate) duplicates: u64,
    pub(crate) dead: u64,
    /// Each payload is filtered by one of the two handlers or the other, as what it takes.
    balances: bool,
    reasons: Vec<String>,
}

/// The numbers of a kind of payload.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) published: u64,
    pub(crate) handled: u64,
    pub(crate) dead: u64,
}

impl Report {
    pub(super) fn new(monitor: &Monitor, tally: &Tally, dead: &[DeadLetter]) -> Self {
        let count = |topic: &str| dead.iter().filter(|letter| letter.message.topic().as_str() == topic).count() as u64;
        let kind = |topic: &str, published| Kind {
            name: topic.trim_start_matches("github.").to_owned(),
            published,
            handled: tally.of(topic),
            dead: count(topic),
        };
        let kinds: Vec<Kind> = monitor.topics.iter().map(|topic| kind(&topic.topic, topic.published)).collect();
        let (activity, others) = (monitor.subscription("activity"), monitor.subscription("others"));
        // What `others` filtered is what `activity` took: counted there.
        let split = activity.zip(others).is_some_and(|(activity, others)| activity.accepted == others.filtered);
        Self {
            published: monitor.published,
            handled: kinds.iter().map(|kind| kind.handled).sum(),
            filtered: activity.map_or(0, |numbers| numbers.filtered),
            duplicates: monitor.total().duplicates,
            dead: kinds.iter().map(|kind| kind.dead).sum(),
            balances: split && monitor.balances(),
            reasons: dead.iter().map(|letter| format!("{}: {}", letter.message.topic(), letter.reason())).collect(),
            kinds,
        }
    }

    /// Whether every payload was handled, filtered, skipped as a duplicate, or is a dead letter.
    pub(crate) fn adds_up(&self) -> bool {
        self.balances && self.published == self.handled + self.filtered + self.duplicates + self.dead
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:30} {:>9} {:>7} {:>4}", "kind", "published", "handled", "dead")?;
        for kind in &self.kinds {
            writeln!(f, "{:30} {:>9} {:>7} {:>4}", kind.name, kind.published, kind.handled, kind.dead)?;
        }
        for reason in &self.reasons {
            writeln!(f, "dead letter: {reason}")?;
        }
        let Self { published, handled, filtered, duplicates, dead, .. } = self;
        let verdict = if self.adds_up() { "adds up" } else { "DOES NOT ADD UP" };
        write!(f, "{published} published = {handled} handled + {filtered} filtered + {duplicates} duplicates + {dead} dead: {verdict}")
    }
}
