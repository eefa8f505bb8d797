//! From the tree of a file to a [`Config`]: every mistake is told, not only the first.

use std::collections::BTreeMap;

use super::duration::show_ms;
use super::keys::{Key, POLICY, ROOT, SECTIONS};
use super::nearest::nearest;
use super::tree::{Entry, Node, SECTION, quoted};
use super::{Config, Given};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::PolicyPatch;
use crate::topic::Name;

/// How many mistakes are told; a file of another program would give thousands.
const FINDINGS_MAX: usize = 20;

/// What is wrong, as far as it has been found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    texts: Vec<String>,
    more: usize,
}

impl Findings {
    pub(super) fn push(&mut self, text: String) {
        if self.texts.len() < FINDINGS_MAX {
            self.texts.push(text);
        } else {
            self.more += 1;
        }
    }

    /// The error that tells them all, if there are any.
    pub(super) fn into_result(self) -> Result<()> {
        let count = self.texts.len() + self.more;
        let text = match (&self.texts[..], self.more) {
            ([], _) => return Ok(()),
            ([one], _) => one.clone(),
            (several, 0) => format!("{count} mistakes in the configuration:\n  {}", several.join("\n  ")),
            (several, more) => format!("{count} mistakes in the configuration:\n  {}\n  and {more} more", several.join("\n  ")),
        };
        Err(Error::new(ErrorKind::Config, text))
    }
}

/// Lays the section `event` of a file over a configuration.
pub(super) fn file(config: &mut Config, file: &str, section: &Node, findings: &mut Findings) {
    let mut walk = Walk { file, findings };
    let Some(entries) = walk.entries(section, SECTION, 0, || expected_section(ROOT, "", &SECTIONS)) else { return };
    walk.section(ROOT, config, SECTION, "", entries, &SECTIONS);
    for entry in entries {
        let path = format!("{SECTION}.{}", entry.key);
        match entry.key.as_str() {
            "defaults" => walk.policy(&mut config.defaults, &path, entry),
            "handlers" => walk.handlers(config, &path, entry),
            _ => {}
        }
    }
}

/// What no single key can know: whether the values of a patch fit each other.
pub(super) fn check_pairs(config: &Config, findings: &mut Findings) {
    let handlers = config.handlers.iter().map(|(name, patch)| (format!("{SECTION}.handlers.{}", shown_key(name)), patch));
    for (path, patch) in std::iter::once((format!("{SECTION}.defaults"), &config.defaults)).chain(handlers) {
        if let (Some(min), Some(max)) = (patch.retry_min_ms, patch.retry_max_ms)
            && min > max
        {
            findings.push(format!("{path}.retry: min {} is longer than max {}", show_ms(min), show_ms(max)));
        }
    }
}

struct Walk<'a> {
    file: &'a str,
    findings: &'a mut Findings,
}

impl Walk<'_> {
    fn tell(&mut self, line: u64, text: String) {
        let place = if line > 0 { format!("{}:{line}: ", self.file) } else { format!("{}: ", self.file) };
        self.findings.push(place + &text);
    }

    /// What is in a section; nothing in one that is only named.
    fn entries<'n>(&mut self, node: &'n Node, path: &str, line: u64, expected: impl FnOnce() -> String) -> Option<&'n [Entry]> {
        match node {
            Node::Map(entries) => Some(entries),
            Node::Null => Some(&[]),
            other => {
                self.tell(line, format!("{path} is {}, expected {}", shown_node(other), expected()));
                None
            }
        }
    }

    /// Sets every key of a section; `others` are sections that somebody else reads.
    fn section<T>(&mut self, keys: &[Key<T>], target: &mut T, path: &str, prefix: &str, entries: &[Entry], others: &[&str]) {
        for entry in entries {
            let name = format!("{prefix}{}", entry.key);
            let full = format!("{path}.{}", shown_key(&entry.key));
            let inner = format!("{name}.");
            let own = keys.iter().find(|key| key.path == name);
            let has_inner = keys.iter().any(|key| key.path.starts_with(&inner));
            match (&entry.node, own) {
                _ if prefix.is_empty() && others.contains(&entry.key.as_str()) => {}
                (Node::Map(entries), _) if has_inner => self.section(keys, target, &full, &inner, entries, others),
                (Node::Null, None) if has_inner => {}
                (Node::Scalar(value), Some(key)) => {
                    if (key.set)(target, value).is_none() {
                        self.tell(entry.line, format!("{full} is {value}, expected {}", key.expected));
                    }
                }
                (node, Some(key)) => self.tell(entry.line, format!("{full} is {}, expected {}", shown_node(node), key.expected)),
                (node, None) if has_inner => {
                    self.tell(entry.line, format!("{full} is {}, expected {}", shown_node(node), expected_section(keys, &inner, &[])));
                }
                (_, None) => {
                    let known = names_at(keys, prefix, others);
                    let hint = did_you_mean(&entry.key, &known);
                    self.tell(entry.line, format!("unknown key {full}: {hint}"));
                }
            }
        }
    }

    fn policy(&mut self, patch: &mut PolicyPatch, path: &str, entry: &Entry) {
        if let Some(entries) = self.entries(&entry.node, path, entry.line, || expected_section(POLICY, "", &[])) {
            self.section(POLICY, patch, path, "", entries, &[]);
        }
    }

    fn handlers(&mut self, config: &mut Config, path: &str, entry: &Entry) {
        let expected = || "a section of handler names, each with a policy".into();
        let Some(entries) = self.entries(&entry.node, path, entry.line, expected) else { return };
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for entry in entries {
            let full = format!("{path}.{}", shown_key(&entry.key));
            let name = match Name::new(&entry.key) {
                Ok(name) => name.as_str().to_owned(),
                Err(error) => {
                    self.tell(entry.line, format!("{full}: {error}"));
                    continue;
                }
            };
            if let Some(line) = seen.insert(name.clone(), entry.line) {
                self.tell(entry.line, format!("{full} stands twice, first on line {line}"));
            }
            self.dotted_toml_name(&full, entry);
            let mut patch = PolicyPatch::NONE;
            self.policy(&mut patch, &full, entry);
            config.handlers.insert(name.clone(), patch);
            config.given.insert(name, Given { file: self.file.to_owned(), line: entry.line });
        }
    }

    /// `[handlers.orders.bill]` in TOML is a table in a table.
    fn dotted_toml_name(&mut self, full: &str, entry: &Entry) {
        let Node::Map(inner) = &entry.node else { return };
        let names = names_at(POLICY, "", &[]);
        let nested = inner.iter().find(|inner| matches!(inner.node, Node::Map(_)) && !names.contains(&inner.key.as_str()));
        if let Some(nested) = nested
            && nearest(&nested.key, names).is_none()
        {
            let name = format!("{}.{}", entry.key, nested.key);
            self.tell(nested.line, format!("{full}: a handler's name with dots is quoted, as {}", quoted(&name)));
        }
    }
}

/// The names that may stand at one level.
pub(super) fn names_at<'k, T>(keys: &[Key<T>], prefix: &str, others: &[&'k str]) -> Vec<&'k str> {
    let mut names: Vec<&str> = Vec::new();
    let own = keys.iter().filter_map(|key| key.path.strip_prefix(prefix)).map(|rest| rest.split('.').next().unwrap_or(rest));
    for name in own.chain(others.iter().copied()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The known word nearest to a mistaken one, or all that are known.
pub(super) fn did_you_mean(given: &str, known: &[&str]) -> String {
    nearest(given, known.iter().copied())
        .map_or_else(|| format!("known are {}", known.join(", ")), |near| format!("did you mean `{near}`?"))
}

fn expected_section<T>(keys: &[Key<T>], prefix: &str, others: &[&str]) -> String {
    format!("a section with {}", names_at(keys, prefix, others).join(", "))
}

/// A key as it stands in a path: quoted if it holds what would be misread.
fn shown_key(key: &str) -> String {
    let plain = !key.is_empty() && key.len() <= 60 && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { key.to_owned() } else { quoted(key) }
}

fn shown_node(node: &Node) -> String {
    match node {
        Node::Null => "empty".into(),
        Node::Scalar(value) => value.to_string(),
        Node::List => "a list".into(),
        Node::Map(_) => "a section".into(),
    }
}
