//! From the descriptors that were linked in, or given, to a table that is known to be sound.

mod cycles;
mod report;
mod rules;

use std::collections::BTreeSet;

pub(crate) use self::report::start_error;
pub use self::report::{Finding, HandlerSummary, Report, Severity};
use crate::broker::{Capabilities, Durability};
use crate::config::Config;
use crate::error::Result;
use crate::event::EventDescriptor;
use crate::handler::{CrateLink, HandlerDescriptor};
use crate::policy::Policy;
use crate::topic::{Name, TopicPattern};

/// Everything that is declared, before it is judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared {
    pub(crate) handlers: Vec<&'static HandlerDescriptor>,
    pub(crate) events: Vec<&'static EventDescriptor>,
    pub(crate) links: Vec<&'static CrateLink>,
    /// Whether the handlers were given to the builder, not found at link time.
    pub(crate) explicit: bool,
}

/// A handler with everything it needs to be subscribed.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) handler: &'static HandlerDescriptor,
    pub(crate) group: Name,
    pub(crate) name: Name,
    pub(crate) topics: Vec<TopicPattern>,
    pub(crate) policy: Policy,
}

impl Declared {
    /// What was linked into this program.
    pub(crate) fn linked() -> Self {
        Self {
            handlers: crate::register::linked_handlers(),
            events: crate::register::linked_events(),
            links: crate::register::linked_crates(),
            explicit: false,
        }
    }

    /// Chosen handlers, and the events they take or return.
    pub(crate) fn only(mut handlers: Vec<&'static HandlerDescriptor>) -> Self {
        handlers.sort_by_key(|handler| (handler.spec.name, handler.spec.at));
        // What else is in the binary (other tests, other services) is not part of this runtime.
        let contracts = handlers.iter().flat_map(|handler| (handler.contracts)().into_iter().chain((handler.publishes)()));
        let mut events: Vec<&'static EventDescriptor> = contracts.collect();
        events.sort_by_key(|event| (event.topic, event.version, event.at));
        events.dedup_by_key(|event| (event.topic, event.version, event.type_id));
        Self { handlers, events, links: Vec::new(), explicit: true }
    }

    /// Judges everything at once: what is planned, and every finding.
    pub(crate) fn plan(&self, config: &Config, capabilities: Option<&Capabilities>) -> (Vec<Planned>, Report) {
        let mut findings = Vec::new();
        rules::declarations(self, &mut findings);
        let mut planned = Vec::new();
        for handler in &self.handlers {
            if let Some(plan) = self.plan_one(handler, config, capabilities, &mut findings) {
                planned.push(plan);
            }
        }
        rules::names(&planned, &mut findings);
        rules::configured_names(config, &planned, &mut findings);
        rules::configured_parts(config, &mut findings);
        rules::unhandled(self, &planned, &mut findings);
        cycles::find(&planned, &mut findings);
        let report = Report::new(&planned, &self.events, findings);
        (planned, report)
    }

    fn plan_one(
        &self,
        handler: &'static HandlerDescriptor,
        config: &Config,
        capabilities: Option<&Capabilities>,
        findings: &mut Vec<Finding>,
    ) -> Option<Planned> {
        let spec = &handler.spec;
        let mut sound = true;
        let mut fault = |text: String, findings: &mut Vec<Finding>| {
            findings.push(Finding::error(format!("handler `{}`: {text}", spec.name)).at(spec.at));
            sound = false;
        };
        let name = Name::new(spec.name);
        let group = spec.group.map_or_else(|| Ok(config.group.clone()), Name::new);
        let topics = self.topics_of(handler, capabilities);
        let patches = [Some(&config.defaults), Some(&spec.policy), config.for_handler(spec.name)];
        let policy = Policy::resolve(patches.into_iter().flatten());
        for text in rules::policy(handler, &policy, capabilities) {
            fault(text, findings);
        }
        for text in [name.as_ref().err(), group.as_ref().err(), topics.as_ref().err()].into_iter().flatten() {
            fault(text.to_string(), findings);
        }
        if !spec.name_given && capabilities.is_some_and(|capabilities| capabilities.durability > Durability::Process) {
            let text = format!(
                "handler `{}` has no `name` of its own: when the function moves, what waits under the old name is orphaned",
                spec.name
            );
            findings.push(Finding::warning(text).at(spec.at));
        }
        if let Some(window) = policy.idempotent.filter(|window| *window < policy.horizon()) {
            let horizon = policy.horizon();
            let text = format!(
                "handler `{}` remembers what it handled for {window:?}, but its retries may take {horizon:?}: a duplicate may come after it is forgotten; make `window` longer",
                spec.name
            );
            findings.push(Finding::warning(text).at(spec.at));
        }
        match (name, group, topics) {
            (Ok(name), Ok(group), Ok(topics)) if sound => Some(Planned { handler, group, name, topics, policy }),
            _ => None,
        }
    }

    /// The topics a handler takes: those it names, else those of its contracts. Where the broker has no wildcards they are
    /// resolved against the declared events.
    fn topics_of(&self, handler: &HandlerDescriptor, capabilities: Option<&Capabilities>) -> Result<Vec<TopicPattern>> {
        let named = handler.spec.topics.iter().map(|text| TopicPattern::new(text)).collect::<Result<Vec<_>>>()?;
        if named.is_empty() {
            let contracts: BTreeSet<&str> = (handler.contracts)().into_iter().map(|contract| contract.topic).collect();
            return contracts.into_iter().map(TopicPattern::new).collect();
        }
        if capabilities.is_none_or(|capabilities| capabilities.wildcards) || !named.iter().any(TopicPattern::has_wildcard) {
            return Ok(named);
        }
        let declared: BTreeSet<&str> = self.events.iter().map(|event| event.topic).collect();
        let mut resolved: Vec<TopicPattern> = named.iter().filter(|pattern| !pattern.has_wildcard()).cloned().collect();
        for topic in declared.into_iter().filter(|topic| named.iter().any(|pattern| pattern.matches(topic))) {
            resolved.push(TopicPattern::new(topic)?);
        }
        Ok(resolved)
    }
}
