//! From an event to a message in a broker: one way, for the runtime's handle and for handlers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use compact_str::CompactString;

use crate::broker::{Broker, Messages, Origin, Outgoing};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::message::{Headers, Id, Lineage, Message, Payload};
use crate::topic::Topic;

/// What can be published: an event by value, or shared.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be published",
    label = "not an event",
    note = "publish a value, or an `Arc`, of a type declared with `#[event(topic = \"...\")]`"
)]
pub trait Publishable {
    /// The event.
    type Event: Event;

    /// The event, shared.
    fn into_shared(self) -> Arc<Self::Event>;
}

#[diagnostic::do_not_recommend]
impl<T: Event> Publishable for T {
    type Event = T;

    fn into_shared(self) -> Arc<T> {
        Arc::new(self)
    }
}

impl<T: Event> Publishable for Arc<T> {
    type Event = T;

    fn into_shared(self) -> Self {
        self
    }
}

/// Makes messages of events and hands them to a broker.
#[derive(Clone)]
pub struct Publisher {
    broker: Arc<dyn Broker>,
    limits: Arc<Limits>,
    origin: Option<Origin>,
}

/// What a publisher checks, and what it counts.
#[derive(Debug)]
pub struct Limits {
    /// The largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// Messages published since start.
    pub published: AtomicU64,
    /// Of those, how many no subscription took.
    pub unrouted: AtomicU64,
}

impl Publisher {
    /// A publisher into a broker.
    pub fn new(broker: Arc<dyn Broker>, limits: Arc<Limits>) -> Self {
        Self { broker, limits, origin: None }
    }

    /// The same for a lane's handlers.
    #[must_use]
    pub fn from_lane(&self, origin: Origin) -> Self {
        Self { origin: Some(origin), ..self.clone() }
    }

    /// The message of an event: a new id, the event's key, the present time.
    ///
    /// # Errors
    ///
    /// When the user's key expression panics.
    pub fn message<P: Publishable>(&self, event: P) -> Result<Message> {
        let event = event.into_shared();
        let descriptor = <P::Event as Event>::DESCRIPTOR;
        let key = if descriptor.has_key { key_of(&*event)? } else { None };
        Ok(Message::new(Topic::from_static(descriptor.topic), descriptor.version, Payload::Typed(event)).with_key(key))
    }

    /// Publishes one message and answers its id.
    pub async fn send(&self, message: Message) -> Result<Id> {
        let id = message.id().clone();
        self.send_delayed(Messages::One(message), Duration::ZERO).await?;
        Ok(id)
    }

    /// Publishes messages, not to be handled before `delay` has passed.
    pub async fn send_delayed(&self, messages: Messages, delay: Duration) -> Result<()> {
        for message in messages.as_slice() {
            self.check_size(message)?;
        }
        let count = messages.as_slice().len() as u64;
        let origin = self.origin.or_else(crate::lane_scope::current);
        let published = self.broker.publish(Outgoing { messages, delay, origin }).await.map_err(Error::from)?;
        self.limits.published.fetch_add(count, Ordering::Relaxed);
        if published.deliveries == 0 {
            self.limits.unrouted.fetch_add(count, Ordering::Relaxed);
            tracing::debug!(count, "published, but nobody subscribes");
        }
        Ok(())
    }

    /// Begins a publish with options.
    pub fn publishing<P: Publishable>(&self, event: P) -> Publish<'_> {
        Publish { publisher: self, message: self.message(event), delay: Duration::ZERO }
    }

    fn check_size(&self, message: &Message) -> Result<()> {
        let Payload::Encoded(encoded) = message.payload() else { return Ok(()) };
        let (size, max) = (encoded.bytes().len(), self.limits.payload_bytes_max);
        if size <= max {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, format!("payload of {} has {size} bytes, at most {max} are allowed", message.topic())))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("broker", &self.broker).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// The user's key expression is user code: it may panic.
fn key_of<E: Event>(event: &E) -> Result<Option<CompactString>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event.key())).map_err(|panic| {
        Error::new(
            ErrorKind::NotStored,
            format!("the key expression of {} panicked: {}", E::DESCRIPTOR.name, crate::panics::text_of(&*panic)),
        )
    })
}

/// A publish with options; nothing happens before [`send`](Publish::send).
#[must_use = "nothing is published before `.send().await`"]
#[derive(Debug)]
pub struct Publish<'a> {
    publisher: &'a Publisher,
    message: Result<Message>,
    delay: Duration,
}

impl Publish<'_> {
    /// Not to be handled before so much time has passed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.message = self.message.and_then(|message| {
            let mut headers: Headers = message.headers().clone();
            headers.insert(name, value)?;
            Ok(message.with_headers(headers))
        });
        self
    }

    /// Another key than the event's own.
    pub fn key(mut self, key: impl Into<CompactString>) -> Self {
        self.message = self.message.map(|message| message.with_key(Some(key.into())));
        self
    }

    /// An id of the user's: what duplicates are recognised by.
    pub fn id(mut self, id: Id) -> Self {
        self.message = self.message.map(|message| message.with_id(id));
        self
    }

    /// When the event happened, if not now.
    pub fn time(mut self, time: SystemTime) -> Self {
        self.message = self.message.map(|message| message.with_time(time));
        self
    }

    /// The id of a chain that began elsewhere, such as a request's.
    pub fn correlation(mut self, id: Id) -> Self {
        self.message = self.message.map(|message| {
            let lineage = Lineage::received(id.clone(), id, message.hops(), message.topic().clone());
            message.with_lineage(Some(lineage))
        });
        self
    }

    pub(crate) fn caused_by(mut self, lineage: Arc<Lineage>) -> Self {
        self.message = self.message.map(|message| message.with_lineage(Some(lineage)));
        self
    }

    /// Publishes, and answers the message's id.
    ///
    /// # Errors
    ///
    /// What an option got that is not allowed; else as [`Runtime::publish`](crate::Runtime::publish).
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting, the outcome is unknown: publish again with the same [`id`](Publish::id).
    pub async fn send(self) -> Result<Id> {
        let message = self.message?;
        let id = message.id().clone();
        self.publisher.send_delayed(Messages::One(message), self.delay).await?;
        Ok(id)
    }
}
