//! What our things are called on a server. Nothing becomes part of a key that is not a checked name.

use super::super::SubscriptionSpec;
use crate::topic::Name;

/// The keys of one installation. The braces keep all of them on one server of whatever spreads keys.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{{{prefix}}}") }
    }

    /// Who subscribes to what.
    pub(super) fn records(&self) -> String {
        format!("{}:subs", self.prefix)
    }

    /// The stream of dead letters.
    pub(super) fn dead(&self) -> String {
        format!("{}:dead", self.prefix)
    }

    /// Where it is told that there is more.
    pub(super) fn more(&self) -> String {
        format!("{}:more", self.prefix)
    }
}

/// What a subscription is called: no name holds a slash.
pub(super) fn place(group: &Name, name: &Name) -> String {
    format!("{group}/{name}")
}

/// Its record, as the scripts read it.
pub(super) fn record(spec: &SubscriptionSpec) -> String {
    let topics: Vec<&str> = spec.topics.iter().map(|topic| topic.as_str()).collect();
    format!("{} {}", u8::from(spec.ordered), topics.join(" "))
}
