//! What a run of the suite found: a row for each case.

use std::fmt;

use super::Size;
use crate::broker::Capabilities;

/// What a run of the suite found. `{report}` prints it as a table, `{report:#}` leaves out what passed.
#[derive(Debug, Clone)]
#[must_use = "a report that nobody looks at proves nothing: `assert` it"]
pub struct Report {
    pub(super) backend: String,
    pub(super) size: Size,
    pub(super) capabilities: Option<Capabilities>,
    pub(super) rows: Vec<Row>,
}

/// One case, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// Its number: 1–16 are the field's standard, A what was missing there, S the rest of the seam's contract.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Pass,
    /// It does not apply: the capability that the broker lacks.
    NotApplicable(&'static str),
    /// It did not hold, panicked, or did not end: the reason.
    Fail(String),
}

impl Report {
    /// What the backend calls itself.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// What the broker declared; `None` if it could not be opened once.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.capabilities.as_ref()
    }

    /// The cases that were selected, in the order of the suite.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether no case failed. A report without cases has not passed.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.failures().next().is_none()
    }

    /// Goes on if the report has [`passed`](Report::passed).
    ///
    /// # Panics
    ///
    /// If it has not: with each failure, or because no case was selected.
    #[track_caller]
    pub fn assert(&self) {
        assert!(!self.rows.is_empty(), "conformance of {}: no case was run", self.backend);
        let failures: Vec<String> = self.failures().map(|(row, why)| format!("\n  {} {}: {why}", row.id, row.name)).collect();
        assert!(failures.is_empty(), "conformance of {}: {} cases failed{}", self.backend, failures.len(), failures.concat());
    }

    fn failures(&self) -> impl Iterator<Item = (&Row, &str)> {
        self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Fail(why) => Some((row, why.as_str())),
            _ => None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.size == Size::Stress { "full" } else { "short" };
        let all = !f.alternate();
        let less = if all { "" } else { ", without what passed" };
        writeln!(f, "conformance of {}, {form} form{less}", self.backend)?;
        for row in self.rows.iter().filter(|row| all || row.outcome != Outcome::Pass) {
            writeln!(f, "  {:<4} {:<40} {}", row.id, row.name, row.outcome)?;
        }
        let count = |is: fn(&Outcome) -> bool| self.rows.iter().filter(|row| is(&row.outcome)).count();
        let passed = count(|outcome| matches!(outcome, Outcome::Pass));
        let excused = count(|outcome| matches!(outcome, Outcome::NotApplicable(_)));
        write!(f, "  {} cases: {passed} passed, {excused} n/a, {} failed", self.rows.len(), self.failures().count())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::NotApplicable(lacks) => write!(f, "n/a ({lacks})"),
            Self::Fail(why) => write!(f, "FAIL {why}"),
        }
    }
}
