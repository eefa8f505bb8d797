//! The Redis broker: a stream for each subscription, into which publishers copy, and scripts that do each step as one.
//!
//! A script runs alone on its server, so that a message is stored for everyone or for nobody, an attempt is counted with the
//! hand-out, a dead letter is stored with the ack, and a late verdict is refused. All times are the server's. Why so:
//! `docs/decisions/0013-redis-layout.md`.
//!
//! What waits is bounded by the server's memory, not by [`SubscriptionSpec::buffer`].

mod checks;
mod claim;
mod config;
mod consumer;
mod error;
mod hint;
mod letters;
mod live;
mod names;
mod publish;
mod read;
mod reply;
mod server;
mod settle;
mod url;

// For our own tests, which speak to the server as others do.
#[doc(hidden)]
pub use ::redis as __redis;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ::redis::Value;
use tokio_util::sync::CancellationToken;

pub use self::config::RedisBrokerBuilder;
use self::consumer::{RedisConsumer, end};
use self::error::Fault;
use self::live::{Live, Lives};
use self::names::Names;
use self::server::{Arg, Script, Server};
use self::settle::Held;
use super::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetter, DeadLetterFilter, DeadLetters, Durability, Outgoing, PublishFailure,
    Published, StartPosition, SubscriptionSpec,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::PAYLOAD_BYTES_MAX;

/// A consumer's place.
type Seat = super::seat::Seat<Held>;

/// A broker on the streams of a Redis server.
///
/// `publish` answers once the server has stored; what that survives, the server's configuration decides. Several processes may
/// use the same prefix of keys; services that share nothing use prefixes of their own.
///
/// ```no_run
/// # async fn shop() -> abe_events::Result<()> {
/// use abe_events::broker::redis::RedisBroker;
/// use abe_events::broker::{Broker, Messages, Outgoing, SubscriptionSpec};
/// use abe_events::{Message, Name, Payload, Topic, TopicPattern};
///
/// let broker = RedisBroker::builder("redis://localhost?prefix=shop")?.open().await?;
/// let spec = SubscriptionSpec::new(Name::new("shop")?, Name::new("billing")?, vec![TopicPattern::new("order.*")?]);
/// let consumer = broker.subscribe(&spec).await?;
///
/// let message = Message::new(Topic::new("order.created")?, 1, Payload::from_bytes("{}"));
/// broker.publish(Outgoing { messages: Messages::One(message), delay: Default::default(), origin: None }).await?;
/// assert_eq!(consumer.receive(0, 10, Vec::new()).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct RedisBroker {
    capabilities: Capabilities,
    shared: Arc<Shared>,
    seats: Mutex<Vec<(Arc<Live>, Weak<Seat>)>>,
    closed: AtomicBool,
    closing: CancellationToken,
}

/// What the broker's parts share.
#[derive(Debug)]
struct Shared {
    server: Server,
    names: Names,
    lives: Lives,
}

const CAPABILITIES: Capabilities = Capabilities {
    name: "redis",
    // As the server is configured: `checks`.
    durability: Durability::Restart,
    wildcards: true,
    ordered: true,
    atomic_publish: true,
    fencing: true,
    leases_optional: false,
    durable_delays: true,
    start: &[StartPosition::Latest],
    competing_consumers: true,
    bounded_queues: false,
    payload_bytes_max: PAYLOAD_BYTES_MAX,
};

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the redis broker is closed")
}

/// The task that was asked ended before it answered.
fn ended() -> Error {
    Error::new(ErrorKind::Unknown, "the redis broker ended before it answered")
}

impl Shared {
    async fn run(&self, script: Script, arguments: &[Arg<'_>]) -> Result<Vec<Value>, Fault> {
        self.server.run(script, &self.names.records(), arguments).await
    }

    /// Makes sure that a subscription is there; `None` where it is in use in another way.
    async fn subscribe(&self, name: &str, record: &str, ordered: bool) -> Result<Option<Vec<Value>>, Fault> {
        let arguments = [Arg::Text(&self.names.prefix), Arg::Text(name), Arg::Text(record), Arg::Number(u64::from(ordered))];
        let answer = self.run(Script::Subscribe, &arguments).await?;
        Ok((answer.len() == 5).then_some(answer))
    }

    /// Makes a subscription again that somebody has removed, and answers what is to be told.
    async fn make_again(&self, live: &Live) -> Fault {
        tracing::error!(subscription = %live.name, "the subscription was removed from the server, with all that waited; it is made again");
        match self.subscribe(&live.name, &live.record, live.ordered).await {
            Ok(_) => Fault::Gone,
            Err(fault) => fault,
        }
    }
}

impl RedisBroker {
    /// A broker on the server of a URL, with options.
    ///
    /// # Errors
    ///
    /// [`Config`](ErrorKind::Config) for a URL that cannot be understood; no error repeats a value of it.
    pub fn builder(url: &str) -> Result<RedisBrokerBuilder> {
        RedisBrokerBuilder::new(url)
    }

    async fn open_with(builder: RedisBrokerBuilder) -> Result<Self> {
        let server = Server::connect(&builder.url).await?;
        let durability = checks::look(&server).await?;
        let shared = Arc::new(Shared { server, names: Names::new(&builder.url.prefix), lives: Lives::default() });
        let closing = CancellationToken::new();
        tokio::spawn(hint::listen(shared.clone(), closing.clone()));
        let capabilities = Capabilities { durability, ..CAPABILITIES };
        Ok(Self { capabilities, shared, seats: Mutex::default(), closed: AtomicBool::new(false), closing })
    }

    fn refuse_if_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(closed()) } else { Ok(()) }
    }

    async fn subscribe_to(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Consumer>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.refuse_if_closed()?;
        let lease = lease_of(spec)?;
        let (name, record) = (names::place(&spec.group, &spec.name), names::record(spec));
        let answer = self.shared.subscribe(&name, &record, spec.ordered).await.map_err(|fault| fault.failed())?;
        let Some(answer) = answer else {
            let text = format!("subscription {} is in use with `ordered = {}`", spec.name, !spec.ordered);
            return Err(Error::new(ErrorKind::Config, text));
        };
        let live = self.shared.lives.live(&name, &record, spec.ordered);
        live.count(&answer[1..]);
        let seat = Arc::new(Seat::new(ConsumerId(NEXT.fetch_add(1, Ordering::Relaxed)), spec, lease));
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|(_, seat)| seat.strong_count() > 0);
        seats.push((live.clone(), Arc::downgrade(&seat)));
        drop(seats);
        // A close that ran meanwhile may have missed the new seat.
        if self.closed.load(Ordering::SeqCst) {
            seat.closed.cancel();
        }
        Ok(Arc::new(RedisConsumer { seat, live, shared: self.shared.clone() }))
    }

    /// Closes all consumers' places.
    fn end_all(&self) -> Vec<(Arc<Live>, Arc<Seat>)> {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.cancel();
        let seats = std::mem::take(&mut *self.seats.lock().unwrap_or_else(PoisonError::into_inner));
        let seats: Vec<_> = seats.into_iter().filter_map(|(live, seat)| Some((live, seat.upgrade()?))).collect();
        seats.iter().for_each(|(_, seat)| seat.closed.cancel());
        seats
    }

    async fn close_all(&self) -> Result<()> {
        for (live, seat) in self.end_all() {
            end(&seat, &live, &self.shared).await;
        }
        Ok(())
    }
}

/// The lease of a subscription, if this broker can give what it asks for.
fn lease_of(spec: &SubscriptionSpec) -> Result<Duration> {
    let unsupported = |text: &str| Err(Error::new(ErrorKind::Unsupported, text));
    if spec.start != StartPosition::Latest {
        return unsupported("the redis broker keeps no history: a subscription starts with what is published after it was made");
    }
    match spec.lease {
        Some(lease) => Ok(lease),
        None => unsupported("the redis broker needs a lease: a process that dies would take along what it was handed out"),
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("prefix", &self.shared.names.prefix).field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        // Consumers hold their share of it; without their broker they are closed.
        for (live, seat) in self.end_all() {
            self.shared.give_back(&live, seat.drain(), true);
        }
    }
}

impl Broker for RedisBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(self.subscribe_to(spec))
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        Answer::later(async {
            self.refuse_if_closed().map_err(|error| PublishFailure { stored: 0, error })?;
            self.shared.publish(outgoing).await
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        Answer::later(self.close_all())
    }
}

impl DeadLetters for RedisBroker {
    fn count(&self) -> Answer<'_, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            self.shared.letter_count().await.map_err(|fault| fault.failed())
        })
    }

    fn list<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<Vec<DeadLetter>>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            self.shared.list_letters(filter).await
        })
    }

    fn replay<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            self.shared.clear_letters(filter, "replay").await
        })
    }

    fn purge<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            self.shared.clear_letters(filter, "purge").await
        })
    }
}
