//! Typed contracts: what `#[event]` makes of a struct, and what a handler can receive.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Body, Message, Payload};
use crate::topic::Topic;

/// A fact with a topic, a version and a form of bytes. `#[event]` writes the implementation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not declared with `#[event(topic = \"...\")]`",
    note = "put `#[event(topic = \"order.created\")]` above the struct"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + Sized + 'static {
    /// Topic, version and where the event was declared.
    const DESCRIPTOR: &'static EventDescriptor;

    /// How it becomes bytes: [`Json`](crate::Json), unless `codec` names another.
    type Codec: Codec;

    /// What order and partition follow; `None` for an event without `key`.
    fn key(&self) -> Option<CompactString> {
        None
    }

    /// Reads a payload of this version or, through the chain of `upcast_from`, of an older one.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] says whether the bytes or the version are at fault.
    fn decode(version: u32, bytes: &[u8]) -> Result<Self, Unreadable>;
}

/// What a handler's message parameter may be made of: an event, or a union of events.
///
/// `#[event]` on an enum without a topic, whose variants each hold one event, writes it for a union.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the message parameter of a `#[subscribe]` handler",
    label = "neither an event nor a union of events",
    note = "the first parameter is an event declared with `#[event(topic = \"...\")]`, as `T`, `&T`, `Arc<T>` or `Batch<T>`, or `Message`"
)]
pub trait Incoming: Send + Sync + Sized + 'static {
    /// Whether each of its contracts has a key, as `ordered` needs.
    const KEYED: bool;

    /// Whether it has no contracts of its own, so that topics must be given.
    const RAW: bool = false;

    /// The contracts a subscription of this type takes.
    fn contracts() -> Vec<&'static EventDescriptor>;

    /// The value of a message: the very one that was published in process, else decoded once and shared.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] when the message is not one of the contracts, or its bytes are not what they claim.
    fn open(message: &Message) -> Result<Arc<Self>, Unreadable>;
}

#[diagnostic::do_not_recommend]
impl<T: Event> Incoming for T {
    const KEYED: bool = T::DESCRIPTOR.has_key;

    fn contracts() -> Vec<&'static EventDescriptor> {
        vec![T::DESCRIPTOR]
    }

    #[inline(always)]
    fn open(message: &Message) -> Result<Arc<Self>, Unreadable> {
        // A wildcard may bring in another event of the same shape, which would be read as this one.
        if !message.topic().is(T::DESCRIPTOR.topic) {
            return Err(Unreadable::OtherTopic(message.topic().clone()));
        }
        match message.payload() {
            Payload::Typed(body) => {
                let any: Arc<dyn Any + Send + Sync> = body.clone();
                any.downcast::<T>().or_else(|_| by_way_of_bytes(message.version(), &**body))
            }
            Payload::Encoded(encoded) => encoded.decoded(|bytes| T::decode(message.version(), bytes)),
        }
    }
}

/// Published as another type of this topic, an older version most likely.
#[cold]
fn by_way_of_bytes<T: Event>(version: u32, body: &dyn Body) -> Result<Arc<T>, Unreadable> {
    let bytes = body.encode().map_err(|error| Unreadable::Malformed(error.to_string()))?;
    T::decode(version, &bytes).map(Arc::new)
}

impl<T: Event> Body for T {
    fn encode(&self) -> Result<Bytes> {
        T::Codec::encode(self).map(Bytes::from).map_err(|error| {
            let text = format!("{} cannot be written as {}", T::DESCRIPTOR.name, T::Codec::CONTENT_TYPE);
            Error::new(ErrorKind::Encode, text).with_source(error)
        })
    }

    fn content_type(&self) -> &'static str {
        T::Codec::CONTENT_TYPE
    }

    fn weight(&self) -> usize {
        size_of::<T>()
    }
}

/// Why a message cannot be read as the type a handler takes. Final: trying again cannot help.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// The bytes are not the event they claim to be. The text holds no value of a sensitive event.
    Malformed(String),
    /// Written in a version newer than this program knows.
    Newer {
        /// The message's version.
        given: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// Written in an older version from which no `upcast_from` leads here.
    NoUpcast {
        /// The message's version.
        given: u32,
        /// The oldest this program can read.
        oldest: u32,
    },
    /// A topic that is none of the contracts'.
    OtherTopic(Topic),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "undecodable payload: {why}"),
            Self::Newer { given, known } => write!(f, "version v{given} is newer than v{known}, the newest this program knows"),
            Self::NoUpcast { given, oldest } => write!(f, "version v{given} cannot be read: the oldest with an upcast path is v{oldest}"),
            Self::OtherTopic(topic) => write!(f, "topic {topic} is none of those the handler's parameter stands for"),
        }
    }
}

/// A contract as data: what the registry, checks and tools know of an event.
pub struct EventDescriptor {
    /// The topic, checked at compile time.
    pub topic: &'static str,
    /// The version, from 1.
    pub version: u32,
    /// The Rust type's name.
    pub name: &'static str,
    /// The item's own documentation.
    pub doc: &'static str,
    /// Where it was declared.
    pub at: Location,
    /// The Rust type.
    pub type_id: TypeId,
    /// The oldest version that the upcast chain reads.
    pub oldest: fn() -> u32,
    /// What its bytes are, as a media type: that of its codec.
    pub content_type: &'static str,
    /// Whether the event has a key.
    pub has_key: bool,
    /// Fields that must not be shown anywhere.
    pub sensitive: &'static [&'static str],
    /// A dry decode, for tools and dead letters.
    pub check: fn(u32, &[u8]) -> Result<(), Unreadable>,
}

impl fmt::Debug for EventDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{} ({} at {})", self.topic, self.version, self.name, self.at)
    }
}

/// A place in the user's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file, as the compiler names it.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
    /// The module path.
    pub module: &'static str,
    /// The crate, with underscores.
    pub krate: &'static str,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
