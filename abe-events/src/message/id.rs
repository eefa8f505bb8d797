//! Message ids: UUIDs of version 7 for our own, any short text for those of others.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use compact_str::CompactString;

use super::clock::now_ms;
use crate::error::{Error, ErrorKind, Result};

/// The longest id taken from outside, in bytes.
const ID_BYTES_MAX: usize = 200;

/// What a message is recognised by, wherever it travels.
///
/// Ids made here are UUIDs of version 7 ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7)), monotonic
/// within a thread, and sort by time. An id from elsewhere may be any text of 1 to 200 bytes without control characters
/// ([CloudEvents](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#id) asks only for a non-empty string).
///
/// ```
/// use abe_events::Id;
///
/// let (first, second) = (Id::new(), Id::new());
/// assert!(first != second && first.to_string().len() == 36);
/// assert_eq!(first.to_string().parse::<Id>().unwrap(), first);
/// assert_eq!("github-delivery-72d3162e".parse::<Id>().unwrap().to_string(), "github-delivery-72d3162e");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Repr {
    /// The high and the low half of a UUID. The low one begins with the variant, and zero is left to tell the two forms
    /// apart: an id has 16 bytes, and every message is moved some ten times.
    Uuid(u64, NonZeroU64),
    /// Thin, so that it fits beside the above.
    Text(Arc<CompactString>),
}

/// An id that is a UUID, free to copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainId(u64, NonZeroU64);

impl From<PlainId> for Id {
    fn from(PlainId(high, low): PlainId) -> Self {
        Self(Repr::Uuid(high, low))
    }
}

/// The variant of RFC 9562, with which the low half begins.
const VARIANT: NonZeroU64 = match NonZeroU64::new(0x8000_0000_0000_0000) {
    Some(variant) => variant,
    None => NonZeroU64::MIN,
};

impl Id {
    /// A new id.
    #[expect(clippy::new_without_default, reason = "a default that differs at every call would surprise")]
    pub fn new() -> Self {
        Self::at(now_ms())
    }

    /// A new id of a time that was read before: for many at once.
    #[inline]
    pub(crate) fn at(now_ms: u64) -> Self {
        let (ms, count, bits) = next_tick(now_ms);
        // Layout of RFC 9562 §5.7: 48 bits of time, version, 12 bits and 62 bits. The counter (method 1 of §6.2) fills
        // the 12 bits and the top of the 62, the thread's random part the rest.
        let high = (ms << 16) | 0x7000 | (count >> 20 & 0xfff);
        let low = VARIANT | ((count & 0xf_ffff) << 42) | (bits & 0x3ff_ffff_ffff);
        Self(Repr::Uuid(high, low))
    }

    /// An id made of a UUID of any version.
    pub fn from_uuid(uuid: uuid::Uuid) -> Self {
        let (high, low) = uuid.as_u64_pair();
        Self(match NonZeroU64::new(low) {
            Some(low) => Repr::Uuid(high, low),
            None => Repr::Text(Arc::new(uuid.hyphenated().to_string().into())),
        })
    }

    /// The id, where it is a UUID.
    #[inline]
    pub(crate) fn as_plain(&self) -> Option<PlainId> {
        match self.0 {
            Repr::Uuid(high, low) => Some(PlainId(high, low)),
            Repr::Text(_) => None,
        }
    }

    /// Whether it was the first that its thread made of its time.
    #[inline]
    pub(crate) fn is_first_of_its_time(&self) -> bool {
        // The counter, where `at` puts it.
        matches!(self.0, Repr::Uuid(high, low) if high & 0xfff == 0 && low.get() >> 42 & 0xf_ffff == 0)
    }

    /// When an id of version 7 was made, in milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> Option<u64> {
        match self.0 {
            Repr::Uuid(high, _) if high >> 12 & 0xf == 7 => Some(high >> 16),
            _ => None,
        }
    }
}

impl Hash for Id {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Only equal ids need the same hash; which of the two forms it is need not be in it.
        match &self.0 {
            Repr::Uuid(high, low) => {
                state.write_u64(*high);
                state.write_u64(low.get());
            }
            Repr::Text(text) => text.hash(state),
        }
    }
}

impl std::str::FromStr for Id {
    type Err = Error;

    /// Takes the text as it is; a UUID in its usual form is stored as one and prints the same.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 36
            && let Ok(uuid) = uuid::Uuid::try_parse(text)
            // An upper-case UUID of another system must come back as it came.
            && uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) == text
        {
            return Ok(Self::from_uuid(uuid));
        }
        if text.is_empty() || text.len() > ID_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(Error::new(ErrorKind::InvalidName, format!("an id has 1 to {ID_BYTES_MAX} bytes and no control characters")));
        }
        Ok(Self(Repr::Text(Arc::new(text.into()))))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(high, low) => fmt::Display::fmt(&uuid::Uuid::from_u64_pair(*high, low.get()).hyphenated(), f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The time in milliseconds and a counter within it, never going back in this thread, and the thread's own bits.
#[inline]
fn next_tick(now_ms: u64) -> (u64, u64, u64) {
    thread_local! {
        static LAST: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
    }
    let now = now_ms & 0xffff_ffff_ffff;
    LAST.with(|last| {
        let (ms, count, mut bits) = last.get();
        if bits == 0 {
            bits = new_thread_bits();
        }
        // A clock that went back, or 4 G ids in one millisecond, keep counting on the last time.
        let next = if now > ms {
            (now, 0, bits)
        } else if count < 0xffff_ffff {
            (ms, count + 1, bits)
        } else {
            (ms + 1, 0, bits)
        };
        last.set(next);
        next
    })
}

/// 42 bits that no other thread of any process has, except by the chance of a random number. Bit 63 is set, so that they are
/// never zero.
#[cold]
fn new_thread_bits() -> u64 {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    uuid::Uuid::now_v7().as_u64_pair().1.wrapping_add(SEQUENCE.fetch_add(1, Ordering::Relaxed)) | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_that_rise_within_a_thread() {
        let ids: Vec<Id> = (0..10_000).map(|_| Id::new()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        let uuid = uuid::Uuid::try_parse(&ids[0].to_string()).unwrap();
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
    }

    #[test]
    fn an_id_has_two_words_and_any_uuid_comes_back() {
        assert_eq!(size_of::<Id>(), 16);
        for text in ["00000000-0000-0000-0000-000000000000", "0190163d-8694-739b-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
        {
            let uuid = uuid::Uuid::try_parse(text).unwrap();
            assert_eq!((Id::from_uuid(uuid).to_string().as_str(), text.parse::<Id>().unwrap()), (text, Id::from_uuid(uuid)));
        }
    }

    #[test]
    fn ids_of_threads_differ() {
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| (0..1_000).map(|_| Id::new()).collect::<Vec<_>>())).collect();
        let all: std::collections::HashSet<Id> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 8_000);
    }

    #[test]
    fn a_foreign_id_prints_as_it_came() {
        for text in ["A", "0190163D-8694-739B-AEA5-966C26F8AD91", "0190163d-8694-739b-aea5-966c26f8ad91", "ключ"] {
            assert_eq!(text.parse::<Id>().unwrap().to_string(), text);
        }
        for bad in ["", "a\nb", &"x".repeat(201)] {
            assert!(bad.parse::<Id>().is_err());
        }
    }
}
