//! The PostgreSQL broker: durable queues in the tables of one schema, for any number of processes.
//!
//! A message is stored once, with a row in the queue of each subscription that takes it; a claim takes rows, an ack deletes
//! them. There is no cursor that could pass over what commits late: a row is found when it is there. What is asked while a
//! statement is under way shares the next, so that many publishers and many lanes share few commits.
//!
//! What waits is bounded by the server's disk, not by [`SubscriptionSpec::buffer`]. Memory is bounded by what is
//! [handed out](SubscriptionSpec::unsettled_max) and by what is being published.

mod claim;
mod config;
mod consumer;
mod db;
mod error;
mod keeper;
mod letters;
mod line;
mod live;
mod notify;
mod publish;
mod queue;
mod routes;
mod schema;
mod settle;
mod subscribe;
#[cfg(test)]
mod tests;

// For our own benchmark, which does the same by hand.
#[doc(hidden)]
pub use sqlx as __sqlx;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use self::claim::Claims;
pub(crate) use self::config::OWN as OWN_PARAMETERS;
pub use self::config::{Acks, PostgresBrokerBuilder};
use self::consumer::{PostgresConsumer, end};
use self::db::Db;
use self::keeper::Keeper;
use self::line::Lines;
use self::live::{Live, Lives};
use self::notify::Hints;
use self::publish::{Publish, Writer, check};
use self::queue::Queue;
use self::settle::{Held, Settle, Settler};
use self::subscribe::{Subscribed, subscribe};
use super::stored::Stored;
use super::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetter, DeadLetterFilter, DeadLetters, Durability, Outgoing, PublishFailure,
    Published, StartPosition, SubscriptionSpec,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::PAYLOAD_BYTES_MAX;

/// How many bytes may be on their way to the server; further publishers wait.
const PUBLISHING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one permit of that stands for.
const PERMIT_BYTES: usize = 1024;

/// A consumer's place.
type Seat = super::seat::Seat<Held>;

/// A broker on the tables of a PostgreSQL schema.
///
/// `publish` answers once its transaction is committed. Several processes may use the same schema; services that share
/// nothing use schemas of their own.
///
/// ```no_run
/// # async fn shop() -> abe_events::Result<()> {
/// use abe_events::broker::postgres::PostgresBroker;
/// use abe_events::broker::{Broker, Messages, Outgoing, SubscriptionSpec};
/// use abe_events::{Message, Name, Payload, Topic, TopicPattern};
///
/// let broker = PostgresBroker::builder("postgres://shop@localhost/shop")?.open().await?;
/// let topics = vec![TopicPattern::new("order.*")?];
/// let spec = SubscriptionSpec::new(Name::new("shop")?, Name::new("billing")?, topics);
/// let consumer = broker.subscribe(&spec).await?;
///
/// let message = Message::new(Topic::new("order.created")?, 1, Payload::from_bytes("{}"));
/// broker.publish(Outgoing { messages: Messages::One(message), delay: Default::default(), origin: None }).await?;
/// assert_eq!(consumer.receive(0, 10, Vec::new()).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct PostgresBroker {
    capabilities: Capabilities,
    db: Db,
    publishes: Arc<Queue<Publish>>,
    settles: Arc<Queue<Settle>>,
    claims: Arc<Claims>,
    lives: Arc<Lives>,
    publishing: Semaphore,
    seats: Mutex<Vec<(Arc<Live>, Weak<Seat>)>>,
    ordered: Arc<Mutex<BTreeSet<i32>>>,
    timeout: std::time::Duration,
    closed: AtomicBool,
    closing: CancellationToken,
}

const CAPABILITIES: Capabilities = Capabilities {
    name: "postgres",
    durability: Durability::PowerLoss,
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
    Error::new(ErrorKind::Closed, "the postgres broker is closed")
}

/// The task that was asked ended before it answered.
fn ended() -> Error {
    Error::new(ErrorKind::Unknown, "the postgres broker ended before it answered")
}

impl PostgresBroker {
    /// A broker on the server of a URL, with options.
    ///
    /// # Errors
    ///
    /// [`Config`](ErrorKind::Config) for a URL that cannot be understood; no error repeats a value of it.
    pub fn builder(url: &str) -> Result<PostgresBrokerBuilder> {
        PostgresBrokerBuilder::new(url)
    }

    async fn open_with(builder: PostgresBrokerBuilder) -> Result<Self> {
        let db = Db::new(&builder);
        let durability = schema::prepare(&db, builder.url.migrate).await?;
        let lives = Arc::new(Lives::new(Hints::new(builder.notify)));
        let (publishes, settles) = (Arc::new(Queue::new(publish::GROUP_MAX)), Arc::new(Queue::new(settle::GROUP_MAX)));
        let claims = Arc::new(Claims::new(db.clone(), lives.clone(), settles.clone(), builder.poll_time()));
        let (closing, ordered, lines) = (CancellationToken::new(), Arc::default(), Lines::new(&db));
        let me = format!("{:016x}", fastrand::u64(..));
        tokio::spawn(Writer { db: db.clone(), queue: publishes.clone(), lives: lives.clone(), lines: lines.clone() }.run());
        let settler = Settler { db: db.clone(), queue: settles.clone(), lives: lives.clone(), lines: lines.clone(), acks: builder.acks };
        tokio::spawn(settler.run());
        let keeper = Keeper { db: db.clone(), lives: lives.clone(), lines, ordered: Arc::clone(&ordered) };
        tokio::spawn(keeper.run(closing.clone()));
        if builder.notify {
            tokio::spawn(notify::tell(db.clone(), lives.clone(), me.clone(), closing.clone()));
            tokio::spawn(notify::listen(db.clone(), lives.clone(), me, closing.clone()));
        }
        Ok(Self {
            capabilities: Capabilities { durability, ..CAPABILITIES },
            db,
            publishes,
            settles,
            claims,
            lives,
            publishing: Semaphore::new(PUBLISHING_BYTES_MAX / PERMIT_BYTES),
            seats: Mutex::default(),
            ordered,
            timeout: builder.timeout,
            closed: AtomicBool::new(false),
            closing,
        })
    }

    fn refuse_if_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(closed()) } else { Ok(()) }
    }

    async fn subscribe_to(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Consumer>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.refuse_if_closed()?;
        if spec.start != StartPosition::Latest {
            let text = "the postgres broker keeps no history: a subscription starts with what is published after it was made";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let lease = spec.lease.ok_or_else(|| {
            let text = "the postgres broker needs a lease: a process that dies would take along what it was handed out";
            Error::new(ErrorKind::Unsupported, text)
        })?;
        let subscribed = tokio::time::timeout(self.timeout, subscribe(&self.db, spec)).await;
        let subscribed = subscribed.map_err(|_late| Error::new(ErrorKind::Unknown, "postgres: the server does not answer"))?;
        let number = match subscribed.map_err(|fault| fault.failed())? {
            Subscribed::Open(number) => number,
            Subscribed::InUse => {
                let text = format!("subscription {} is in use with `ordered = {}`", spec.name, !spec.ordered);
                return Err(Error::new(ErrorKind::Config, text));
            }
        };
        if spec.ordered {
            self.ordered.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        }
        // What waits for the first consumer here is counted as it stands; beside others nothing is counted twice.
        let first = self.lives.get(number).is_none();
        let live = self.lives.live(number);
        self.lives.count(&self.db, std::slice::from_ref(&live), first).await.map_err(|fault| fault.failed())?;
        let seat = Arc::new(Seat::new(ConsumerId(NEXT.fetch_add(1, Ordering::Relaxed)), spec, lease));
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|(_, seat)| seat.strong_count() > 0);
        seats.push((live.clone(), Arc::downgrade(&seat)));
        drop(seats);
        // A close that ran meanwhile may have missed the new seat.
        if self.closed.load(Ordering::SeqCst) {
            seat.closed.cancel();
        }
        Ok(Arc::new(PostgresConsumer { seat, live, claims: self.claims.clone(), settles: self.settles.clone(), db: self.db.clone() }))
    }

    async fn store(&self, outgoing: Outgoing) -> Result<Published, PublishFailure> {
        let none = |error| PublishFailure { stored: 0, error };
        self.refuse_if_closed().map_err(none)?;
        let messages = outgoing.messages.as_slice().iter().map(Stored::of).collect::<Result<Vec<Stored>>>().map_err(none)?;
        if messages.is_empty() {
            return Ok(Published::default());
        }
        check(&messages).map_err(none)?;
        let bytes: usize = messages.iter().map(|message| usize::try_from(message.bytes()).unwrap_or(0)).sum();
        // A call that is larger than everything there may be goes alone.
        let permits = bytes.div_ceil(PERMIT_BYTES).min(PUBLISHING_BYTES_MAX / PERMIT_BYTES);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let _room = self.publishing.acquire_many(permits).await.map_err(|_| none(closed()))?;
        let (reply, answer) = oneshot::channel();
        self.publishes.push(Publish::new(messages, outgoing.delay, reply)).map_err(|_| none(closed()))?;
        answer.await.unwrap_or_else(|_| Err(none(ended())))
    }

    /// Gives back what all consumers hold, and lets the tasks end after what was asked before.
    fn end_all(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.publishing.close();
        let seats = std::mem::take(&mut *self.seats.lock().unwrap_or_else(PoisonError::into_inner));
        for (live, seat) in seats.into_iter().filter_map(|(live, seat)| seat.upgrade().map(|seat| (live, seat))) {
            end(&seat, &live, &self.settles);
        }
        self.publishes.close();
        self.settles.close();
        self.closing.cancel();
    }

    async fn close_all(&self) -> Result<()> {
        self.end_all();
        self.publishes.ended.cancelled().await;
        self.settles.ended.cancelled().await;
        self.db.pool.close().await;
        Ok(())
    }
}

impl fmt::Debug for PostgresBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBroker").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Drop for PostgresBroker {
    fn drop(&mut self) {
        // Consumers hold their share of it; without their broker they are closed.
        self.end_all();
    }
}

impl Broker for PostgresBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(self.subscribe_to(spec))
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        Answer::later(self.store(outgoing))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        Answer::later(self.close_all())
    }
}

impl DeadLetters for PostgresBroker {
    fn count(&self) -> Answer<'_, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            letters::count(&self.db).await.map_err(|fault| fault.failed())
        })
    }

    fn list<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<Vec<DeadLetter>>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            letters::list(&self.db, filter).await.map_err(|fault| fault.failed())
        })
    }

    fn replay<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            letters::replay(&self.db, &self.lives, filter).await.map_err(|fault| fault.failed())
        })
    }

    fn purge<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            letters::purge(&self.db, filter).await.map_err(|fault| fault.failed())
        })
    }
}
