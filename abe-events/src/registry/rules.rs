//! What must hold for a program to start, each rule with its cure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Declared, Finding, Planned};
use crate::broker::Capabilities;
use crate::config::Config;
use crate::event::EventDescriptor;
use crate::handler::HandlerDescriptor;
use crate::policy::Policy;

/// Rules on declarations alone.
pub(super) fn declarations(declared: &Declared, findings: &mut Vec<Finding>) {
    if declared.handlers.is_empty() {
        let cure = if declared.explicit {
            "the list given to `.handlers(..)` is empty"
        } else {
            "either no function has `#[subscribe]`, or the crate that holds them is never named: say `abe_events::link!(my_handlers);` in the program, or give them with `Runtime::builder().handlers(handlers![..])`"
        };
        findings.push(Finding::error(format!("no handler is registered; {cure}")));
    }
    for link in &declared.links {
        for krate in link.crates {
            let contributes = declared.handlers.iter().any(|handler| handler.spec.at.krate == *krate)
                || declared.events.iter().any(|event| event.at.krate == *krate);
            if !contributes {
                findings.push(
                    Finding::error(format!("crate `{krate}` is named in `link!` but contributes no handler and no event")).at(link.at),
                );
            }
        }
    }
    let mut contracts: BTreeMap<(&str, u32), Vec<&EventDescriptor>> = BTreeMap::new();
    for event in &declared.events {
        contracts.entry((event.topic, event.version)).or_default().push(event);
    }
    for ((topic, version), events) in contracts {
        if events.len() > 1 {
            let names: Vec<&str> = events.iter().map(|event| event.name).collect();
            let mut finding = Finding::error(format!(
                "event `{topic}` v{version} is declared {} times, as {}; give each its own version or topic",
                events.len(),
                names.join(" and ")
            ));
            for event in events {
                finding = finding.at(event.at);
            }
            findings.push(finding);
        }
    }
    for handler in &declared.handlers {
        gaps(handler, declared, findings);
    }
}

/// Versions that exist but cannot be read by a handler of their topic.
fn gaps(handler: &HandlerDescriptor, declared: &Declared, findings: &mut Vec<Finding>) {
    for contract in (handler.contracts)() {
        let oldest = (contract.oldest)();
        for event in declared.events.iter().filter(|event| event.topic == contract.topic && event.version < oldest) {
            let text = format!(
                "handler `{}` takes `{}` v{}, but {} (v{}) exists with no upcast path; say `upcast_from = {}` along the chain",
                handler.spec.name, contract.topic, contract.version, event.name, event.version, event.name
            );
            findings.push(Finding::error(text).at(handler.spec.at).at(event.at));
        }
        for event in declared.events.iter().filter(|event| event.topic == contract.topic && event.version > contract.version) {
            let text = format!(
                "handler `{}` takes `{}` v{}, but {} (v{}) exists: messages of that version will be dead-lettered; take the newer type",
                handler.spec.name, contract.topic, contract.version, event.name, event.version
            );
            findings.push(Finding::error(text).at(handler.spec.at).at(event.at));
        }
    }
}

/// Rules on one handler's policy, with and without a broker at hand.
pub(super) fn policy(handler: &HandlerDescriptor, policy: &Policy, capabilities: Option<&Capabilities>) -> Vec<String> {
    let mut faults = policy.faults();
    let spec = &handler.spec;
    let contracts = (handler.contracts)();
    if policy.batch > 1 && !spec.takes_batch {
        faults.push(format!(
            "`batch` is {}, but its message parameter is not a `Batch<..>`; take a `Batch`, or leave `batch` at 1",
            policy.batch
        ));
    }
    if policy.ordered {
        for contract in contracts.iter().filter(|contract| !contract.has_key) {
            faults.push(format!("`ordered` needs a key, and {} ({}) has none; say `key = field` on the event", contract.name, contract.at));
        }
    }
    if !spec.topics.is_empty() {
        for contract in &contracts {
            let named = spec.topics.iter().filter_map(|text| crate::topic::TopicPattern::new(text).ok());
            if !named.into_iter().any(|pattern| pattern.matches(contract.topic)) {
                faults.push(format!(
                    "its topics ({}) leave out `{}`, the topic of its parameter {}",
                    spec.topics.join(", "),
                    contract.topic,
                    contract.name
                ));
            }
        }
    }
    if let Some(capabilities) = capabilities {
        if policy.ordered && !capabilities.ordered {
            faults.push(format!(
                "the {} broker cannot keep order per key over retries; remove `ordered`, or choose another broker",
                capabilities.name
            ));
        }
        if policy.concurrency > 1 && !capabilities.competing_consumers {
            faults.push(format!("the {} broker cannot run several attempts of one subscription; set `concurrency = 1`", capabilities.name));
        }
    }
    faults
}

/// No two subscriptions may share group and name.
pub(super) fn names(planned: &[Planned], findings: &mut Vec<Finding>) {
    let mut known: BTreeMap<(&str, &str), &Planned> = BTreeMap::new();
    for plan in planned {
        if let Some(first) = known.insert((plan.group.as_str(), plan.name.as_str()), plan) {
            let text = format!("two handlers have the name `{}` in group `{}`; give one of them `name = \"...\"`", plan.name, plan.group);
            findings.push(Finding::error(text).at(first.handler.spec.at).at(plan.handler.spec.at));
        }
    }
}

/// `handlers:` of the configuration must name handlers that exist.
pub(super) fn configured_names(config: &Config, planned: &[Planned], findings: &mut Vec<Finding>) {
    let known: Vec<&str> = planned.iter().map(|plan| plan.handler.spec.name).collect();
    for unknown in config.unknown_handlers(&known) {
        findings.push(Finding::error(unknown.to_string()));
    }
}

/// What is configured, and this build cannot do: ignoring it would promise what is not there.
pub(super) fn configured_parts(config: &Config, findings: &mut Vec<Finding>) {
    if config.store.is_some() && !cfg!(any(feature = "sqlite", feature = "postgres")) {
        let text = "`store` is configured, but this build has none; add the feature `sqlite` or `postgres` to abe-events in Cargo.toml";
        findings.push(Finding::error(text));
    }
}

/// Events nobody subscribes to.
pub(super) fn unhandled(declared: &Declared, planned: &[Planned], findings: &mut Vec<Finding>) {
    let topics: BTreeSet<&str> = declared.events.iter().map(|event| event.topic).collect();
    for topic in topics {
        if !planned.iter().any(|plan| plan.topics.iter().any(|pattern| pattern.matches(topic))) {
            let mut finding = Finding::note(format!("nobody subscribes to `{topic}`"));
            for event in declared.events.iter().filter(|event| event.topic == topic) {
                finding = finding.at(event.at);
            }
            findings.push(finding);
        }
    }
    for plan in planned {
        for pattern in &plan.topics {
            if !declared.events.iter().any(|event| pattern.matches(event.topic)) {
                let text =
                    format!("handler `{}` takes `{pattern}`, which no declared event has; it gets what others publish there", plan.name);
                findings.push(Finding::warning(text).at(plan.handler.spec.at));
            }
        }
    }
}
