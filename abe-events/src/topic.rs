//! Validated names: [`Topic`], [`TopicPattern`] and [`Name`]. No other text reaches a broker as a name.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use compact_str::CompactString;

use crate::error::{Error, ErrorKind, Result};

/// The longest name, in bytes; leaves room for a prefix under every broker's own limit.
pub const NAME_BYTES_MAX: usize = 200;

/// The longest segment of a dotted name, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 64;

/// The name of a stream of events: segments of `[A-Za-z0-9_-]` joined by dots, such as `order.created`.
///
/// ```
/// use abe_events::Topic;
///
/// assert_eq!(Topic::new("order.created").unwrap().as_str(), "order.created");
/// for bad in ["", ".a", "a..b", "$JS.API.STREAM.DELETE", "a b", "_INBOX.x", "order.*"] {
///     assert!(Topic::new(bad).is_err(), "{bad}");
/// }
/// ```
#[derive(Clone)]
pub struct Topic(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    /// Thin, so that a topic has two words: every message is moved some ten times.
    Shared(Arc<CompactString>),
}

impl Topic {
    /// A topic from text of any origin.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] when the text is empty, longer than [`NAME_BYTES_MAX`], has an empty or too
    /// long segment, begins with `_` or `$`, or has a character other than `[A-Za-z0-9_.-]`.
    pub fn new(text: &str) -> Result<Self> {
        check_name("topic", text)?;
        Ok(Self(Text::Shared(Arc::new(text.into()))))
    }

    /// A topic that was checked at compile time; `#[event]` uses it.
    #[doc(hidden)]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Text::Static(text))
    }

    /// The text of a topic that was declared, at its fixed address.
    #[inline]
    pub(crate) fn as_static(&self) -> Option<&'static str> {
        match self.0 {
            Text::Static(text) => Some(text),
            Text::Shared(_) => None,
        }
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }

    /// Whether it is this text. A declared topic mostly meets its own text, and an address is compared faster than its bytes.
    #[inline]
    pub(crate) fn is(&self, text: &str) -> bool {
        std::ptr::eq(self.as_str(), text) || self.as_str() == text
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.as_str())
    }
}
impl Eq for Topic {}
impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Topic {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}
impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
impl std::str::FromStr for Topic {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

/// Which topics a subscription takes: a topic, or one with wildcards.
///
/// `*` stands for exactly one segment, a final `>` for one or more.
///
/// ```
/// use abe_events::TopicPattern;
///
/// let pattern = TopicPattern::new("order.*.created").unwrap();
/// assert!(pattern.matches("order.eu.created") && !pattern.matches("order.created"));
/// assert!(TopicPattern::new("order.>").unwrap().matches("order.eu.created"));
/// assert!(TopicPattern::new("order.>.x").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPattern(Arc<str>);

impl TopicPattern {
    /// A pattern from text of any origin.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] for what [`Topic::new`] refuses, except `*` as a whole segment and `>` as the last.
    pub fn new(text: &str) -> Result<Self> {
        if text == ">" || text == "*" {
            return Ok(Self(Arc::from(text)));
        }
        let concrete: Vec<&str> = text
            .split('.')
            .enumerate()
            .map(|(at, segment)| {
                let last = text.split('.').count() == at + 1;
                if segment == "*" || (segment == ">" && last) { "w" } else { segment }
            })
            .collect();
        check_name("topic pattern", &concrete.join(".")).map_err(|error| error.context(format_args!("{text:?}")))?;
        Ok(Self(Arc::from(text)))
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it holds a wildcard.
    pub fn has_wildcard(&self) -> bool {
        self.0.split('.').any(|segment| segment == "*" || segment == ">")
    }

    /// Whether a topic is one of those meant.
    pub fn matches(&self, topic: &str) -> bool {
        let mut topic = topic.split('.');
        for segment in self.0.split('.') {
            match (segment, topic.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (segment, Some(given)) if segment == given => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

impl From<&Topic> for TopicPattern {
    fn from(topic: &Topic) -> Self {
        Self(Arc::from(topic.as_str()))
    }
}
impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The name of a group or of a subscription: the alphabet of a topic, and `::` between Rust path segments becomes `.`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// A name that is known to be allowed, as a default is.
    pub(crate) fn from_checked(text: &'static str) -> Self {
        debug_assert!(check_name("name", text).is_ok());
        Self(Arc::from(text))
    }

    /// A name from text of any origin.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] for what [`Topic::new`] refuses.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.replace("::", ".");
        check_name("name", &text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn check_name(what: &str, text: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidName, format!("{what} {}: {why}", shorten(text))));
    if text.is_empty() {
        return refuse("is empty".into());
    }
    if text.len() > NAME_BYTES_MAX {
        return refuse(format!("is {} bytes long, at most {NAME_BYTES_MAX} are allowed", text.len()));
    }
    if text.starts_with(['_', '$']) {
        return refuse("begins with `_` or `$`, which brokers keep for themselves".into());
    }
    for segment in text.split('.') {
        if segment.is_empty() {
            return refuse("has an empty segment (a dot at an end, or two in a row)".into());
        }
        if segment.len() > SEGMENT_BYTES_MAX {
            return refuse(format!("has a segment of {} bytes, at most {SEGMENT_BYTES_MAX} are allowed", segment.len()));
        }
        if let Some(bad) = segment.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            return refuse(format!("contains {bad:?}; allowed are ASCII letters, digits, `_`, `-` and `.`"));
        }
    }
    Ok(())
}

/// The text quoted and cut, so that a hostile name cannot fill a log or break its lines.
fn shorten(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}
