//! What a check found, and what a program consists of.

use std::fmt;

use super::Planned;
use crate::error::{Error, ErrorKind};
use crate::event::{EventDescriptor, Location};

/// Everything a check has to say: the handlers, the events, and what is wrong or remarkable.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The handlers that can be subscribed, by name.
    pub handlers: Vec<HandlerSummary>,
    /// The declared events as `topic vN`, sorted.
    pub events: Vec<String>,
    /// What was found, errors first.
    pub findings: Vec<Finding>,
}

/// A handler in a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerSummary {
    /// The subscription's name.
    pub name: String,
    /// The group.
    pub group: String,
    /// The topics it takes.
    pub topics: Vec<String>,
    /// Batch, concurrency, retries and so on, in a line.
    pub policy: String,
    /// Where it was declared.
    pub at: Location,
}

/// Something wrong or remarkable, with the places it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Whether it keeps the runtime from starting.
    pub severity: Severity,
    /// What, and what to do.
    pub text: String,
    /// Where.
    pub at: Vec<Location>,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The runtime refuses to start.
    Error,
    /// Worth a change; logged at start.
    Warning,
    /// Worth knowing; in the report only.
    Note,
}

impl Finding {
    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, text: text.into(), at: Vec::new() }
    }

    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(text) }
    }

    pub(crate) fn note(text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(text) }
    }

    pub(crate) fn at(mut self, at: Location) -> Self {
        self.at.push(at);
        self
    }
}

impl Report {
    pub(super) fn new(planned: &[Planned], events: &[&'static EventDescriptor], mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| (a.severity, &a.text, &a.at).cmp(&(b.severity, &b.text, &b.at)));
        let mut handlers: Vec<HandlerSummary> = planned.iter().map(HandlerSummary::of).collect();
        handlers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut events: Vec<String> = events.iter().map(|event| format!("{} v{}", event.topic, event.version)).collect();
        events.sort();
        Self { handlers, events, findings }
    }

    /// The findings that keep the runtime from starting.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// The findings worth a change.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Warning)
    }

    /// All errors as one, if there are any.
    pub(crate) fn to_error(&self) -> Option<Error> {
        start_error(&self.errors().map(ToString::to_string).collect::<Vec<_>>())
    }
}

/// The refusal to start, with all that is to be fixed.
pub(crate) fn start_error(faults: &[String]) -> Option<Error> {
    let heading = || format!("cannot start, {} to fix:\n  - {}", count(faults.len(), "thing"), faults.join("\n  - "));
    (!faults.is_empty()).then(|| Error::new(ErrorKind::Start, heading()))
}

pub(crate) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

impl HandlerSummary {
    fn of(planned: &Planned) -> Self {
        let policy = &planned.policy;
        let mut words = vec![format!("concurrency {}", policy.concurrency), format!("attempts {}", policy.retry.attempts)];
        match policy.timeout {
            Some(timeout) => words.push(format!("timeout {timeout:?}")),
            None => words.push("no timeout".into()),
        }
        if planned.handler.spec.takes_batch {
            words.push(format!("batch {} or {:?}", policy.batch, policy.max_wait));
        }
        for (on, word) in [
            (policy.ordered, "ordered"),
            (policy.idempotent.is_some(), "idempotent"),
            (planned.handler.spec.filtered, "filter"),
            (planned.handler.spec.blocking, "blocking"),
        ] {
            if on {
                words.push(word.into());
            }
        }
        words.push(format!("buffer {}", policy.buffer));
        Self {
            name: planned.name.as_str().to_owned(),
            group: planned.group.as_str().to_owned(),
            topics: planned.topics.iter().map(ToString::to_string).collect(),
            policy: words.join(", "),
            at: planned.handler.spec.at,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let places: Vec<String> = self.at.iter().map(ToString::to_string).collect();
        if places.is_empty() { Ok(()) } else { write!(f, " ({})", places.join(", ")) }
    }
}

impl fmt::Display for HandlerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ← {} [{}] ({})", self.name, self.topics.join(", "), self.policy, self.at)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}", count(self.handlers.len(), "handler"), count(self.events.len(), "event"))?;
        for handler in &self.handlers {
            writeln!(f, "  {handler}")?;
        }
        for finding in &self.findings {
            let word = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            writeln!(f, "  {word}: {finding}")?;
        }
        Ok(())
    }
}
