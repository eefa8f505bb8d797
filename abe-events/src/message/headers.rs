//! User headers: a small, bounded, ordered map.

use std::fmt;

use compact_str::CompactString;

use crate::error::{Error, ErrorKind, Result};

/// How many headers a message may have.
pub const HEADER_COUNT_MAX: usize = 64;

/// How many bytes the names and values of all headers of a message may have.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Header names that brokers or this crate give a meaning of their own; users cannot set them.
const RESERVED_PREFIXES: [&str; 7] = ["ce-", "ce_", "abe-", "nats-", "x-", "$", "_"];
const RESERVED_NAMES: [&str; 4] = ["cc", "bcc", "content-type", "traceparent"];

/// Names and values that travel beside the payload.
///
/// Names are `[a-z0-9._-]`, lower case; values are any text without control characters.
///
/// ```
/// use abe_events::Headers;
///
/// let mut headers = Headers::new();
/// headers.insert("tenant", "acme").unwrap();
/// assert_eq!(headers.get("tenant"), Some("acme"));
/// assert!(headers.insert("bcc", "everyone").is_err(), "brokers act on it");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(CompactString, CompactString)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn empty() -> &'static Self {
        static EMPTY: Headers = Headers::new();
        &EMPTY
    }

    /// Sets a header, replacing one of the same name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] for a name or value that is not allowed, or a name that brokers or this crate act on;
    /// [`ErrorKind::TooLarge`] past [`HEADER_COUNT_MAX`] or [`HEADER_BYTES_MAX`].
    pub fn insert(&mut self, name: &str, value: &str) -> Result<()> {
        if RESERVED_NAMES.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(Error::new(ErrorKind::InvalidName, format!("header {name:?} is reserved: brokers or the framework act on it")));
        }
        self.insert_foreign(name, value)
    }

    /// Sets a header that came from outside: checked and bounded, but any name is let through.
    pub fn insert_foreign(&mut self, name: &str, value: &str) -> Result<()> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) {
            return Err(Error::new(
                ErrorKind::InvalidName,
                format!("header name {:?}: 1 to 128 of a-z, 0-9, `.`, `_`, `-` are allowed", name.chars().take(40).collect::<String>()),
            ));
        }
        if value.chars().any(char::is_control) {
            return Err(Error::new(ErrorKind::InvalidName, format!("header {name:?}: control characters are not allowed in a value")));
        }
        self.0.retain(|(known, _)| known != name);
        if self.0.len() >= HEADER_COUNT_MAX || self.bytes() + name.len() + value.len() > HEADER_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("header {name:?}: at most {HEADER_COUNT_MAX} headers of {HEADER_BYTES_MAX} bytes in all are allowed"),
            ));
        }
        self.0.push((name.into(), value.into()));
        Ok(())
    }

    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All headers, in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
