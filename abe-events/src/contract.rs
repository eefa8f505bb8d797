//! What the code that `#[event]` writes is made of: reading a payload through its versions, and checks at compile time.

use std::fmt::Display;
use std::marker::PhantomData;

use compact_str::{CompactString, ToCompactString};

use crate::codec::{Codec, is_content_type};
use crate::event::{Event, EventDescriptor, Incoming, Unreadable};
use crate::handler::{Form, IntoOutcome, Receive};
use crate::mutant;

/// Reads a payload that is to be of an event's own version.
pub fn read<T: Event>(version: u32, bytes: &[u8]) -> Result<T, Unreadable> {
    let known = T::DESCRIPTOR.version;
    if version > known && !mutant::is("newer-is-read") {
        return Err(Unreadable::Newer { given: version, known });
    }
    if version < known && !mutant::is("newer-is-read") {
        return Err(Unreadable::NoUpcast { given: version, oldest: (T::DESCRIPTOR.oldest)() });
    }
    T::Codec::decode(bytes).map_err(|error| {
        Unreadable::Malformed(match error.downcast_ref::<serde_json::Error>() {
            Some(error) => describe(error, T::DESCRIPTOR, bytes, check_path::<T>),
            None => describe_other(&*error, T::DESCRIPTOR),
        })
    })
}

/// Reads a payload of an older version than `T`'s, as the event that `T` is upcast from.
pub fn read_older<T: Event, Old: Event>(version: u32, bytes: &[u8]) -> Result<Old, Unreadable> {
    if version > Old::DESCRIPTOR.version {
        // Between the two: `Old` would call it newer than known, which it is not.
        return Err(Unreadable::NoUpcast { given: version, oldest: (T::DESCRIPTOR.oldest)() });
    }
    Old::decode(version, bytes)
}

/// The result of `upcast_with`.
pub fn upcast<T: Event, Old: Event, E: Display>(upcast: fn(Old) -> Result<T, E>, old: Old) -> Result<T, Unreadable> {
    upcast(old).map_err(|error| {
        let from = Old::DESCRIPTOR.version;
        // The error may quote the event.
        Unreadable::Malformed(match T::DESCRIPTOR.sensitive.is_empty() && Old::DESCRIPTOR.sensitive.is_empty() {
            true => format!("upcast from v{from} failed: {error}"),
            false => format!("upcast from v{from} failed"),
        })
    })
}

/// A dry decode.
pub fn check<T: Event>(version: u32, bytes: &[u8]) -> Result<(), Unreadable> {
    T::decode(version, bytes).map(drop)
}

/// What is wrong with a payload. Texts of sensitive events say where, and never what.
fn describe(error: &serde_json::Error, descriptor: &EventDescriptor, bytes: &[u8], path: fn(&[u8]) -> Option<String>) -> String {
    if descriptor.sensitive.is_empty() {
        let error = without_value(&error.to_string());
        return match path(bytes) {
            Some(path) => format!("{error} (in `{path}`)"),
            None => error,
        };
    }
    let what = match error.classify() {
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Eof => "JSON that ends too early",
        serde_json::error::Category::Data => "JSON of another shape",
        serde_json::error::Category::Io => "cannot be read",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// The same of a codec that is not ours, whose words nobody knows.
fn describe_other(error: &(dyn std::error::Error + Send + Sync), descriptor: &EventDescriptor) -> String {
    let content_type = descriptor.content_type;
    match descriptor.sensitive.is_empty() {
        true => format!("not readable as {content_type}: {}", without_value(&error.to_string())),
        false => format!("not readable as {content_type}"),
    }
}

/// The text of a serde error without the value it quotes: a field of a nested type may be sensitive.
fn without_value(text: &str) -> String {
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(at) = text.find(kind)
            && let Some(expected) = text.rfind(", expected ").filter(|expected| *expected > at)
        {
            return format!("{}{}{}", &text[..at], kind.trim_end_matches(": "), &text[expected..]);
        }
    }
    text.to_owned()
}

/// Where in a payload the error is; runs only when there is one.
fn check_path<T: Event>(bytes: &[u8]) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) if error.inner().is_data() && error.path().iter().next().is_some() => Some(error.path().to_string()),
        _ => None,
    }
}

/// The text of a key.
pub fn key_text<K: Display + ?Sized>(key: &K) -> CompactString {
    key.to_compact_string()
}

/// Refuses an `upcast_from` that names another topic, or no older version.
#[track_caller]
pub const fn check_upcast<New: Event, Old: Event>() {
    let (new, old) = (New::DESCRIPTOR, Old::DESCRIPTOR);
    assert!(same_text(new.topic, old.topic), "`upcast_from` must name an event of the same topic");
    assert!(old.version < new.version, "`upcast_from` must name an older version");
}

/// What an event's bytes are.
pub const fn content_type<T: Event>() -> &'static str {
    <T::Codec as Codec>::CONTENT_TYPE
}

/// Refuses a codec whose content type nobody could pass on.
#[track_caller]
pub const fn check_codec<T: Event>() {
    let fits = is_content_type(content_type::<T>());
    assert!(fits, "`CONTENT_TYPE` of this codec is no media type: one word such as `application/cbor`, at most 100 bytes long");
}

/// Refuses `batch` on a handler that takes one message per call.
#[track_caller]
pub const fn check_batch<P: Receive>() {
    assert!(P::Form::BATCH, "`batch`, `max_wait` and `bytes` need a `Batch<T>` message parameter");
}

/// Refuses `ordered` for an event without a key.
#[track_caller]
pub const fn check_ordered<P: Receive>() {
    assert!(P::Item::KEYED, "`ordered` needs an event with a key: say `key = ...` in its `#[event(...)]`");
}

/// Fails the build when a handler's parameter is a transaction that nothing could be done with: of its parameters up to
/// this one, `transactions` says which are one.
#[track_caller]
pub const fn check_transaction(transactions: &[bool], shared: bool, asynchronous: bool) {
    let Some((true, before)) = transactions.split_last() else { return };
    assert!(!shared, "nothing can be executed through `&Tx`: take `mut tx: Tx<Db>`, or `tx: &mut Tx<Db>`");
    assert!(asynchronous, "a handler with `Tx` is an `async fn`: what is executed in a transaction is awaited");
    let mut one = 0;
    while one < before.len() {
        assert!(!before[one], "a handler takes one `Tx`, and no more: all it writes commits together");
        one += 1;
    }
}

/// Refuses a union in which two variants have one topic: the second would never be seen.
#[track_caller]
pub const fn check_union(events: &[&EventDescriptor]) {
    let mut one = 0;
    while one < events.len() {
        let mut other = one + 1;
        while other < events.len() {
            assert!(!same_text(events[one].topic, events[other].topic), "two variants of a union have the same topic");
            other += 1;
        }
        one += 1;
    }
}

/// Whether a handler takes a batch per call; refuses a handler of raw messages that names no topic.
#[track_caller]
pub const fn takes_batch<P: Receive>(names_topics: bool) -> bool {
    assert!(names_topics || !P::Item::RAW, "a handler of `Message` says which topics it takes: `topic = \"...\"` or `topics = [...]`");
    P::Form::BATCH
}

/// The contracts of a message parameter.
pub fn contracts<P: Receive>() -> Vec<&'static EventDescriptor> {
    P::Item::contracts()
}

/// A handler's message parameter and return type, to ask what it publishes.
#[derive(Debug)]
pub struct Returned<P, R>(PhantomData<fn() -> (P, R)>);

impl<P, R> Returned<P, R> {
    /// For the macro.
    #[expect(clippy::new_without_default, reason = "only generated code makes one")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// A return type that a handler may have. Method lookup prefers it to [`ReturnsAnything`], which is one reference further.
pub trait ReturnsOutcome {
    /// The contracts it publishes.
    fn publishes(&self) -> Vec<&'static EventDescriptor>;
}

impl<P: Receive, R: IntoOutcome<P::Form>> ReturnsOutcome for Returned<P, R> {
    fn publishes(&self) -> Vec<&'static EventDescriptor> {
        R::publishes()
    }
}

/// A return type that a handler must not have: reported where the handler is bound, and not here as well.
pub trait ReturnsAnything {
    /// None.
    fn publishes(&self) -> Vec<&'static EventDescriptor> {
        Vec::new()
    }
}

impl<P, R> ReturnsAnything for &Returned<P, R> {}

/// The crate of a module path.
pub const fn crate_of(module: &'static str) -> &'static str {
    let bytes = module.as_bytes();
    let mut end = 0;
    while end < bytes.len() && bytes[end] != b':' {
        end += 1;
    }
    module.split_at(end).0
}

const fn same_text(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The place of the macro that is being expanded.
#[doc(hidden)]
#[macro_export]
macro_rules! __here {
    () => {
        $crate::Location {
            file: ::core::file!(),
            line: ::core::line!(),
            module: ::core::module_path!(),
            krate: $crate::__private::crate_of(::core::module_path!()),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_out_of_error_texts() {
        assert_eq!(
            without_value("invalid type: string \"4111, expected\", expected u64 at line 1"),
            "invalid type, expected u64 at line 1"
        );
        assert_eq!(without_value("at 7: invalid value: integer `4111`, expected u8"), "at 7: invalid value, expected u8");
        assert_eq!(without_value("missing field `a`"), "missing field `a`");
    }

    #[test]
    fn the_crate_is_the_first_segment() {
        assert_eq!((crate_of("orders::billing"), crate_of("orders")), ("orders", "orders"));
    }
}
