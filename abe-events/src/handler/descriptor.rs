//! What is known of a handler before it is called: constants, filled in by the macro.

use std::fmt;

use super::BoxWorker;
use super::resolve::Resolver;
use crate::event::{EventDescriptor, Location};
use crate::policy::PolicyPatch;

/// A handler as data: what the registry, checks and tools know of it.
pub struct HandlerDescriptor {
    /// What the attribute says.
    pub spec: Spec,
    /// The contracts of its message parameter: one for an event, several for a union, none for `Message`.
    pub contracts: fn() -> Vec<&'static EventDescriptor>,
    /// The contracts it publishes by returning them.
    pub publishes: fn() -> Vec<&'static EventDescriptor>,
    /// Looks up its state and builds the loop that calls it; `None` when something was missing, which the resolver has noted.
    pub bind: fn(&mut Resolver<'_>) -> Option<BoxWorker>,
}

impl fmt::Debug for HandlerDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.spec.name, self.spec.at)
    }
}

/// What `#[subscribe(...)]` says.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The subscription's name: given, or the function's module path and name.
    pub name: &'static str,
    /// Whether the name was given: a derived one changes when the function moves, which orphans a durable backlog.
    pub name_given: bool,
    /// The group, if given; else the runtime's.
    pub group: Option<&'static str>,
    /// Topics, wildcards allowed; empty for those of the message parameter's contracts.
    pub topics: &'static [&'static str],
    /// Retries, timeout, batch and so on, as far as given.
    pub policy: PolicyPatch,
    /// Rules on headers, all of which must hold.
    pub headers: &'static [HeaderRule],
    /// Whether there is a filter.
    pub filtered: bool,
    /// Whether the message parameter is a `Batch`.
    pub takes_batch: bool,
    /// Whether the function blocks and runs on the blocking pool.
    pub blocking: bool,
    /// The parameters' types as text, for reports.
    pub params: &'static [&'static str],
    /// The function's own documentation.
    pub doc: &'static str,
    /// Where it was declared.
    pub at: Location,
}

impl Spec {
    /// Nothing given; the macro fills over it.
    pub const DEFAULT: Self = Self {
        name: "",
        name_given: false,
        group: None,
        topics: &[],
        policy: PolicyPatch::NONE,
        headers: &[],
        filtered: false,
        takes_batch: false,
        blocking: false,
        params: &[],
        doc: "",
        at: Location { file: "", line: 0, module: "", krate: "" },
    };
}

/// A condition on a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderRule {
    /// The header has one of these values.
    OneOf(&'static str, &'static [&'static str]),
    /// The header is there.
    Present(&'static str),
    /// The header is not there.
    Absent(&'static str),
}

/// Crates named by `link!`: each must contribute at least one descriptor.
#[derive(Debug)]
pub struct CrateLink {
    /// The crates, with underscores.
    pub crates: &'static [&'static str],
    /// Where `link!` stands.
    pub at: Location,
}
