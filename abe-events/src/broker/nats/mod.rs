//! The NATS JetStream broker: one stream of events, and a durable consumer for each subscription.
//!
//! The server decides who gets a message: it keeps each until every consumer whose filter takes it has acknowledged it. What
//! JetStream does not keep stands in two more streams: dead letters, and a note beside a message that did not end with its first
//! delivery. Nothing is written for a message that does. Why so: `docs/decisions/0012-nats-layout.md`.
//!
//! What waits is bounded by the server's disk, not by [`SubscriptionSpec::buffer`].

mod ack;
mod clock;
mod config;
mod consumer;
mod error;
mod feed;
mod letters;
mod live;
mod names;
mod note;
mod publish;
mod pull;
mod read;
mod record;
mod server;
mod settle;
mod streams;
mod subscribe;
mod url;

// For our own tests, which speak to the server as others do.
#[doc(hidden)]
pub use async_nats as __async_nats;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::clock::Clock;
pub use self::config::NatsBrokerBuilder;
use self::consumer::{NatsConsumer, end};
use self::feed::Feed;
use self::live::Live;
use self::names::{Names, Place};
use self::publish::Routes;
use self::server::Server;
use self::settle::Held;
use super::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetter, DeadLetterFilter, DeadLetters, Durability, Outgoing, PublishFailure,
    Published, StartPosition, SubscriptionSpec,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::PAYLOAD_BYTES_MAX;
use crate::wire::ATTRIBUTE_BYTES_MAX;

/// How often it is asked how much there is to do.
const COUNT: Duration = Duration::from_secs(5);

/// A consumer's place.
type Seat = super::seat::Seat<Held>;

/// A broker on the JetStream of NATS servers.
///
/// `publish` answers once the stream has acknowledged. Several processes may use the same stream; services that share nothing
/// use streams of their own.
///
/// ```no_run
/// # async fn shop() -> abe_events::Result<()> {
/// use abe_events::broker::nats::NatsBroker;
/// use abe_events::broker::{Broker, Messages, Outgoing, SubscriptionSpec};
/// use abe_events::{Message, Name, Payload, Topic, TopicPattern};
///
/// let broker = NatsBroker::builder("nats://localhost?stream=shop")?.open().await?;
/// let spec = SubscriptionSpec::new(Name::new("shop")?, Name::new("billing")?, vec![TopicPattern::new("order.*")?]);
/// let consumer = broker.subscribe(&spec).await?;
///
/// let message = Message::new(Topic::new("order.created")?, 1, Payload::from_bytes("{}"));
/// broker.publish(Outgoing { messages: Messages::One(message), delay: Default::default(), origin: None }).await?;
/// assert_eq!(consumer.receive(0, 10, Vec::new()).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct NatsBroker {
    capabilities: Capabilities,
    shared: Arc<Shared>,
    feeds: Mutex<Vec<Weak<Feed>>>,
    closed: AtomicBool,
    closing: CancellationToken,
}

/// What the broker's parts share.
#[derive(Debug)]
struct Shared {
    server: Server,
    names: Names,
    clock: Clock,
    routes: Routes,
    lives: Mutex<HashMap<String, Arc<Live>>>,
    payload_bytes_max: usize,
}

const CAPABILITIES: Capabilities = Capabilities {
    name: "nats",
    // A power failure may take what the server has not yet synced: `sync_interval` is two minutes.
    durability: Durability::ServerCrash,
    wildcards: true,
    // JetStream hands out the next message of a key while an earlier one waits for its retry.
    ordered: false,
    atomic_publish: false,
    // It takes the word of whoever knows the subject; we do not send it once the lease has ended.
    fencing: false,
    leases_optional: false,
    durable_delays: true,
    start: &[StartPosition::Latest],
    competing_consumers: true,
    bounded_queues: false,
    payload_bytes_max: PAYLOAD_BYTES_MAX,
};

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the nats broker is closed")
}

/// The task that was asked ended before it answered.
fn ended() -> Error {
    Error::new(ErrorKind::Unknown, "the nats broker ended before it answered")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn lives(&self) -> Vec<Arc<Live>> {
        lock(&self.lives).values().cloned().collect()
    }

    fn live(&self, place: &Place) -> Option<Arc<Live>> {
        lock(&self.lives).get(&place.consumer).cloned()
    }

    /// Asks the server now and then how much there is to do.
    async fn keep_counting(self: Arc<Self>, closing: CancellationToken) {
        while tokio::time::timeout(COUNT, closing.cancelled()).await.is_err() {
            lock(&self.lives).retain(|_, live| live.in_use());
            for live in self.lives() {
                let changes = live.changes();
                if let Ok(info) = subscribe::info(&self.server, &self.names, &live.place).await {
                    live.correct(changes, info.num_pending, info.num_ack_pending);
                }
            }
        }
    }
}

impl NatsBroker {
    /// A broker on the servers of a URL, with options.
    ///
    /// # Errors
    ///
    /// [`Config`](ErrorKind::Config) for a URL that cannot be understood; no error repeats a value of it.
    pub fn builder(url: &str) -> Result<NatsBrokerBuilder> {
        NatsBrokerBuilder::new(url)
    }

    async fn open_with(builder: NatsBrokerBuilder) -> Result<Self> {
        let server = Server::connect(&builder.url).await?;
        let names = Names::new(&builder.url.stream);
        streams::prepare(&server, &names, &builder.url).await?;
        // What describes a message needs room beside its payload.
        let payload_bytes_max = PAYLOAD_BYTES_MAX.min(server.message_bytes_max().saturating_sub(ATTRIBUTE_BYTES_MAX));
        let shared =
            Shared { server, names, clock: Clock::default(), routes: Routes::default(), lives: Mutex::default(), payload_bytes_max };
        shared.clock.now(&shared.server, &shared.names).await.map_err(|fault| fault.failed())?;
        shared.read_routes().await.map_err(|fault| fault.failed())?;
        let (shared, closing) = (Arc::new(shared), CancellationToken::new());
        tokio::spawn(shared.clone().keep_counting(closing.clone()));
        let capabilities = Capabilities { payload_bytes_max, ..CAPABILITIES };
        Ok(Self { capabilities, shared, feeds: Mutex::default(), closed: AtomicBool::new(false), closing })
    }

    fn refuse_if_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(closed()) } else { Ok(()) }
    }

    async fn subscribe_to(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Consumer>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.refuse_if_closed()?;
        let lease = lease_of(spec)?;
        let place = Place::new(&spec.group, &spec.name);
        let (server, names) = (&self.shared.server, &self.shared.names);
        let table = subscribe::subscribe(server, names, &place, &spec.topics, lease).await.map_err(|fault| fault.failed())?;
        let info = subscribe::info(server, names, &place).await.map_err(|fault| fault.failed())?;
        self.shared.routes.insert(&place.consumer, Arc::new(table.clone()));
        let mut lives = lock(&self.shared.lives);
        let live = lives.entry(place.consumer.clone());
        let live = live.or_insert_with(|| Arc::new(Live::new(place, table.clone(), info.num_pending))).clone();
        drop(lives);
        live.set_table(table);
        let seat = Seat::new(ConsumerId(NEXT.fetch_add(1, Ordering::Relaxed)), spec, lease);
        let feed = Arc::new(Feed::new(seat, live.clone(), self.shared.clone()));
        lock(&live.feeds).push(Arc::downgrade(&feed));
        let mut feeds = lock(&self.feeds);
        feeds.retain(|feed| feed.strong_count() > 0);
        feeds.push(Arc::downgrade(&feed));
        drop(feeds);
        // A close that ran meanwhile may have missed the new one.
        if self.closed.load(Ordering::SeqCst) {
            end(&feed);
        }
        Ok(Arc::new(NatsConsumer { feed }))
    }

    /// Gives back what all consumers hold.
    fn end_all(&self) -> Vec<Arc<Feed>> {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.cancel();
        let feeds: Vec<Arc<Feed>> = std::mem::take(&mut *lock(&self.feeds)).iter().filter_map(Weak::upgrade).collect();
        feeds.iter().for_each(|feed| drop(end(feed)));
        feeds
    }

    async fn close_all(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        let feeds: Vec<Arc<Feed>> = std::mem::take(&mut *lock(&self.feeds)).iter().filter_map(Weak::upgrade).collect();
        let ended: Vec<_> = feeds.iter().filter_map(end).collect();
        futures_util::future::join_all(ended).await;
        for feed in feeds {
            feed.over.cancelled().await;
        }
        self.closing.cancel();
        Ok(())
    }
}

/// The lease of a subscription, if this broker can give what it asks for.
fn lease_of(spec: &SubscriptionSpec) -> Result<Duration> {
    let unsupported = |text: &str| Err(Error::new(ErrorKind::Unsupported, text));
    if spec.ordered {
        return unsupported(
            "the nats broker keeps no order per key: JetStream hands out the next message of a key while an earlier one waits for its retry; leave out `ordered`, or use `postgres://` or `sqlite://`",
        );
    }
    if spec.start != StartPosition::Latest {
        return unsupported(
            "the nats broker keeps what somebody still needs: a subscription starts with what is published after it was made",
        );
    }
    match spec.lease {
        Some(lease) => Ok(lease),
        None => unsupported("the nats broker needs a lease: a process that dies would take along what it was handed out"),
    }
}

impl fmt::Debug for NatsBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBroker").field("stream", &self.shared.names.events).field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Drop for NatsBroker {
    fn drop(&mut self) {
        // Consumers hold their share of it; without their broker they are closed.
        self.end_all();
    }
}

impl Broker for NatsBroker {
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

impl DeadLetters for NatsBroker {
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
            self.shared.replay_letters(filter).await
        })
    }

    fn purge<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            self.shared.purge_letters(filter).await
        })
    }
}
