//! The SQLite broker: durable queues in one file, for one or several processes of a machine.
//!
//! One thread talks to the file; whatever is asked while it commits shares the next transaction. A
//! message is stored once, with a line in the queue of each subscription that takes it. What is next is found by index,
//! never by a scan, so that a long backlog costs no more than a short one.
//!
//! What waits is bounded by the disk, not by [`SubscriptionSpec::buffer`]: a full disk makes `publish` fail with
//! [`NotStored`](crate::ErrorKind::NotStored), and everything goes on when there is room again. Memory is bounded by what
//! is [handed out](SubscriptionSpec::unsettled_max) and by what is being published.

mod call;
mod claim;
mod config;
mod consumer;
mod error;
mod letters;
mod live;
mod lock;
mod publish;
mod schema;
mod settle;
mod state;
mod subscribe;
#[cfg(test)]
mod tests;
mod writer;

// For our own tests, which look into the file from outside: a dev-dependency would build SQLite for everybody's tests.
#[doc(hidden)]
pub use rusqlite as __rusqlite;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Semaphore, oneshot};

use self::call::{call, closed, ended};
pub use self::config::{SqliteBrokerBuilder, Synchronous};
use self::consumer::SqliteConsumer;
use self::letters::Wanted;
use self::publish::Publish;
use self::settle::Held;
use self::subscribe::{Subscribed, subscribe};
use self::writer::{Inbox, Writer};
use super::stored::Stored;
use super::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetter, DeadLetterFilter, DeadLetters, Durability, Outgoing, PublishFailure,
    Published, StartPosition, SubscriptionSpec,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::PAYLOAD_BYTES_MAX;

/// How many bytes may be on their way to the file; further publishers wait.
const PUBLISHING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one permit of that stands for.
const PERMIT_BYTES: usize = 1024;

/// A broker on one SQLite file.
///
/// Several processes may open the same file, on a local disk. `publish` answers once its transaction is committed; with
/// the default [`Synchronous::Full`] what was published survives a power failure.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use abe_events::broker::sqlite::SqliteBroker;
/// use abe_events::broker::{Broker, Messages, Outgoing, SubscriptionSpec};
/// use abe_events::{Message, Name, Payload, Topic, TopicPattern};
///
/// # let file = std::env::temp_dir().join(format!("abe-events-doc-{}.db", std::process::id()));
/// let broker = SqliteBroker::builder(&file).open()?;
/// let topics = vec![TopicPattern::new("order.*")?];
/// let spec = SubscriptionSpec::new(Name::new("shop")?, Name::new("billing")?, topics);
/// let consumer = broker.subscribe(&spec).await?;
///
/// let message = Message::new(Topic::new("order.created")?, 1, Payload::from_bytes("{}"));
/// broker.publish(Outgoing { messages: Messages::One(message), delay: Default::default(), origin: None }).await?;
/// broker.close().await?;
///
/// let broker = SqliteBroker::builder(&file).open()?; // another day
/// let consumer = broker.subscribe(&spec).await?;
/// assert_eq!(consumer.receive(0, 10, Vec::new()).await?.len(), 1);
/// # broker.close().await?;
/// # for end in ["", "-wal", "-shm"] { let _ = std::fs::remove_file(format!("{}{end}", file.display())); }
/// # Ok::<(), abe_events::Error>(())
/// # }).unwrap();
/// ```
pub struct SqliteBroker {
    capabilities: Capabilities,
    inbox: Arc<Inbox>,
    publishing: Semaphore,
    seats: Mutex<Vec<(i64, Weak<Seat>)>>,
    closed: AtomicBool,
}

/// A consumer's place.
type Seat = super::seat::Seat<Held>;

const CAPABILITIES: Capabilities = Capabilities {
    name: "sqlite",
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

impl SqliteBroker {
    /// A broker on the file of a path, with options.
    pub fn builder(path: impl Into<PathBuf>) -> SqliteBrokerBuilder {
        SqliteBrokerBuilder::new(path.into())
    }

    /// How many transactions have written something since the file was opened; what is published at once shares one.
    pub fn commits(&self) -> u64 {
        self.inbox.commits.load(Ordering::Relaxed)
    }

    fn open_with(builder: &SqliteBrokerBuilder) -> Result<Self> {
        let connection = schema::open(builder)?;
        let inbox = Arc::new(Inbox::default());
        Writer::start(connection, inbox.clone(), builder.busy_timeout)
            .map_err(|error| Error::new(ErrorKind::Broker, format!("sqlite: no thread can be started: {error}")))?;
        let durability = match builder.synchronous {
            Synchronous::Full => Durability::PowerLoss,
            Synchronous::Normal => Durability::ServerCrash,
        };
        Ok(Self {
            capabilities: Capabilities { durability, ..CAPABILITIES },
            inbox,
            publishing: Semaphore::new(PUBLISHING_BYTES_MAX / PERMIT_BYTES),
            seats: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    fn refuse_if_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(closed()) } else { Ok(()) }
    }

    async fn subscribe_to(&self, spec: &SubscriptionSpec) -> Result<Arc<dyn Consumer>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.refuse_if_closed()?;
        if spec.start != StartPosition::Latest {
            let text = "the sqlite broker keeps no history: a subscription starts with what is published after it was made";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let lease = spec.lease.ok_or_else(|| {
            let text = "the sqlite broker needs a lease: a process that dies would take along what it was handed out";
            Error::new(ErrorKind::Unsupported, text)
        })?;
        let wanted = spec.clone();
        let (number, live) = match call(&self.inbox, move |tx| subscribe(tx, &wanted)).await? {
            Subscribed::Open { number, live } => (number, live),
            Subscribed::InUse => {
                let text = format!("subscription {} is in use with `ordered = {}`", spec.name, !spec.ordered);
                return Err(Error::new(ErrorKind::Config, text));
            }
        };
        let seat = Arc::new(Seat::new(ConsumerId(NEXT.fetch_add(1, Ordering::Relaxed)), spec, lease));
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|(_, seat)| seat.strong_count() > 0);
        seats.push((number, Arc::downgrade(&seat)));
        drop(seats);
        // A close that ran meanwhile may have missed the new seat.
        if self.closed.load(Ordering::SeqCst) {
            seat.closed.cancel();
        }
        Ok(Arc::new(SqliteConsumer { subscription: number, seat, live, inbox: self.inbox.clone() }))
    }

    async fn store(&self, outgoing: Outgoing) -> Result<Published, PublishFailure> {
        let none = |error| PublishFailure { stored: 0, error };
        self.refuse_if_closed().map_err(none)?;
        let messages = outgoing.messages.as_slice().iter().map(Stored::of).collect::<Result<Vec<Stored>>>().map_err(none)?;
        if messages.is_empty() {
            return Ok(Published::default());
        }
        let bytes: usize = messages.iter().map(|message| usize::try_from(message.bytes()).unwrap_or(0)).sum();
        // A call that is larger than everything there may be goes alone.
        let permits = bytes.div_ceil(PERMIT_BYTES).min(PUBLISHING_BYTES_MAX / PERMIT_BYTES);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let _room = self.publishing.acquire_many(permits).await.map_err(|_| none(closed()))?;
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Box::new(Publish::new(messages, outgoing.delay, reply))).map_err(|_| none(closed()))?;
        answer.await.unwrap_or_else(|_| Err(none(ended())))
    }

    async fn close_all(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        self.publishing.close();
        let seats = std::mem::take(&mut *self.seats.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, seat) in seats.into_iter().filter_map(|(number, seat)| seat.upgrade().map(|seat| (number, seat))) {
            SqliteConsumer::end(&seat, number, &self.inbox);
        }
        self.inbox.close();
        self.inbox.ended.cancelled().await;
        Ok(())
    }

    async fn replay_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.refuse_if_closed()?;
        let wanted = Wanted::of(filter);
        let last = call(&self.inbox, |tx| letters::last(tx)).await?;
        let mut total = 0;
        loop {
            let left = filter.limit.saturating_sub(total);
            let some = wanted.clone();
            let (count, more) = call(&self.inbox, move |tx| letters::replay(tx, &some, left, last)).await?;
            total += count;
            if !more || (filter.limit > 0 && total >= filter.limit) {
                return Ok(total as u64);
            }
        }
    }
}

impl fmt::Debug for SqliteBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBroker").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Drop for SqliteBroker {
    fn drop(&mut self) {
        // Consumers hold the inbox, too; without their broker they are closed.
        let seats = std::mem::take(self.seats.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (number, seat) in seats.into_iter().filter_map(|(number, seat)| seat.upgrade().map(|seat| (number, seat))) {
            SqliteConsumer::end(&seat, number, &self.inbox);
        }
        self.inbox.close();
    }
}

impl Broker for SqliteBroker {
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

impl DeadLetters for SqliteBroker {
    fn count(&self) -> Answer<'_, Result<u64>> {
        Answer::later(async {
            self.refuse_if_closed()?;
            call(&self.inbox, |tx| letters::count(tx)).await
        })
    }

    fn list<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<Vec<DeadLetter>>> {
        let wanted = Wanted::of(filter);
        Answer::later(async move {
            self.refuse_if_closed()?;
            call(&self.inbox, move |tx| letters::list(tx, &wanted)).await
        })
    }

    fn replay<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        Answer::later(self.replay_all(filter))
    }

    fn purge<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        let wanted = Wanted::of(filter);
        Answer::later(async move {
            self.refuse_if_closed()?;
            call(&self.inbox, move |tx| letters::purge(tx, &wanted)).await
        })
    }
}
