//! The section `event` of a YAML or TOML file as a tree with line numbers, before anything is understood of it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::budget::BudgetBreach;
use toml::de::{DeTable, DeValue};

use super::redact::redact_url;

/// The section of a file that is ours.
pub(super) const SECTION: &str = "event";

/// How much of a text is shown in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// `null`, or a key with nothing behind it.
    Null,
    /// A value.
    Scalar(Scalar),
    /// A list; no key takes one.
    List,
    /// Keys and what is under them, in the order of the file.
    Map(Vec<Entry>),
}

/// A key with what is under it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) node: Node,
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Bool(bool),
    Int(i128),
    Text(String),
    /// A value of the environment, whose type is only known by its key.
    Env(String),
    /// What no key takes: a fraction, a date.
    Other(String),
}

impl Scalar {
    pub(super) fn boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Env(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Env(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Env(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(text) | Self::Env(text) => f.write_str(&quoted(text)),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A text of the user in quotes: without credentials, cut, and with control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    // What stands before a `@` may be a password, also where a URL was mistyped: `ann hunter2@db`, `redis:/:hunter2@db`.
    let redacted = match text.rsplit_once('@') {
        Some((_, host)) if !text.contains("://") => format!("***@{host}"),
        _ => redact_url(text),
    };
    let cut: String = redacted.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < redacted.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

/// Why a file cannot be read, and on which line.
#[derive(Debug, PartialEq)]
pub(super) struct Unparsable {
    pub(super) line: Option<u64>,
    pub(super) why: String,
}

/// The section of a YAML file, if it has one.
pub(super) fn from_yaml(text: &str) -> Result<Option<Node>, Unparsable> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    // A file of a few lines can ask for terabytes through aliases. These bounds are far above what a person writes.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 100_000,
            max_nodes: 50_000,
            max_depth: 64,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 2,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 16,
        },
        // A message that quotes the file would quote its passwords.
        with_snippet: false,
        // `no` and `on` are words: the Norway problem, https://hitchdev.com/strictyaml/why/implicit-typing-removed/
        strict_booleans: true,
    };
    match serde_saphyr::from_str_with_options::<Document>(text, options) {
        Ok(document) => Ok(document.0),
        Err(error) => {
            let why = match error.without_snippet() {
                serde_saphyr::Error::Budget { breach, .. } => too_much(breach),
                serde_saphyr::Error::MultipleDocuments { .. } => "holds more than one document".into(),
                other => redact_url(&first_line(&other.to_string())),
            };
            Err(Unparsable { line: error.location().map(|at| at.line()).filter(|line| *line > 0), why })
        }
    }
}

fn too_much(breach: &BudgetBreach) -> String {
    format!("is larger or nested deeper than a configuration may be ({})", first_line(&format!("{breach:?}")))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The section of a TOML file, if it has one.
pub(super) fn from_toml(text: &str) -> Result<Option<Node>, Unparsable> {
    let table = DeTable::parse(text).map_err(|error| Unparsable {
        line: error.span().map(|span| line_of(text, span.start)),
        why: redact_url(&first_line(error.message())),
    })?;
    Ok(table.get_ref().iter().find(|(key, _)| key.get_ref() == SECTION).map(|(_, value)| toml_node(text, value.get_ref())))
}

/// The parser bounds the depth of values, so this recursion is bounded too.
fn toml_node(text: &str, value: &DeValue<'_>) -> Node {
    Node::Scalar(match value {
        DeValue::String(value) => Scalar::Text(value.to_string()),
        DeValue::Integer(value) => {
            i128::from_str_radix(value.as_str(), value.radix()).map_or_else(|_| Scalar::Other(value.to_string()), Scalar::Int)
        }
        DeValue::Float(value) => Scalar::Other(value.to_string()),
        DeValue::Boolean(value) => Scalar::Bool(*value),
        DeValue::Datetime(value) => Scalar::Other(value.to_string()),
        DeValue::Array(_) => return Node::List,
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| Entry {
                key: toml_key(key),
                line: line_of(text, key.span().start),
                node: toml_node(text, value.get_ref()),
            };
            return Node::Map(table.iter().map(entry).collect());
        }
    })
}

fn toml_key(key: &toml::Spanned<std::borrow::Cow<'_, str>>) -> String {
    key.get_ref().to_string()
}

fn line_of(text: &str, offset: usize) -> u64 {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() as u64
}

/// A whole file, of which only our section is kept.
struct Document(Option<Node>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file of sections")
            }

            fn visit_unit<E>(self) -> Result<Document, E> {
                Ok(Document(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut section = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == SECTION {
                        section = Some(map.next_value::<Node>()?);
                    } else {
                        // Other sections are the user's own.
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Document(section))
            }
        }
        deserializer.deserialize_any(Top)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a section")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Int(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Int(value.into())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Int(value)))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Scalar(i128::try_from(value).map_or_else(|_| Scalar::Other(value.to_string()), Scalar::Int)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Other(value.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Text(value.into())))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { line: key.referenced.line(), key: key.value, node: map.next_value()? });
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, line: u64, node: Node) -> Entry {
        Entry { key: key.into(), line, node }
    }

    fn expected(lines: [u64; 4]) -> Node {
        Node::Map(vec![
            entry("batch", lines[0], Node::Scalar(Scalar::Int(5))),
            entry("ordered", lines[1], Node::Scalar(Scalar::Bool(true))),
            entry("retry", lines[2], Node::Map(vec![entry("min", lines[3], Node::Scalar(Scalar::Text("5s".into())))])),
        ])
    }

    #[test]
    fn both_formats_give_the_same_tree_with_lines() {
        let yaml = "other: [1, 2]\nevent:\n  batch: 5\n  ordered: true\n  retry:\n    min: 5s\n1: x\n";
        assert_eq!(from_yaml(yaml), Ok(Some(expected([3, 4, 5, 6]))));
        let toml = "other = [1, 2]\n[event]\nbatch = 5\nordered = true\n[event.retry]\nmin = \"5s\"\n";
        assert_eq!(from_toml(toml), Ok(Some(expected([3, 4, 5, 6]))));
        assert_eq!(
            (from_yaml("a: 1"), from_yaml(""), from_yaml("# nothing"), from_toml("a = 1")),
            (Ok(None), Ok(None), Ok(None), Ok(None))
        );
    }

    #[test]
    fn hostile_yaml_ends_soon_and_without_a_panic() {
        let bomb: String = (1..20)
            .map(|n| format!("  a{n}: &a{n} {{{}}}\n", (0..10).map(|k| format!("k{k}: *a{}", n - 1)).collect::<Vec<_>>().join(", ")))
            .collect();
        let bomb = format!("event:\n  a0: &a0 {{x: 1}}\n{bomb}");
        let many = format!("event:\n{}", (0..300_000).map(|n| format!("  k{n}: 1\n")).collect::<String>());
        for text in
            [bomb, many, format!("event: {}", "[".repeat(100_000)), format!("event: {}", "{a: ".repeat(5_000)), "event: &a [*a]".into()]
        {
            let started = std::time::Instant::now();
            assert!(from_yaml(&text).is_err(), "{}", &text[..60.min(text.len())]);
            // Generous, for a busy machine and a debug build; unbounded, the first would take for ever.
            assert!(started.elapsed().as_secs() < 60);
        }
        for text in ["[", "{a=", "[[", "a."] {
            assert!(from_toml(&format!("event = {}", text.repeat(10_000))).is_err());
        }
    }
}
