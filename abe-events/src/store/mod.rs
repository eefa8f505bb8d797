//! The SQL store: what any broker is given by a database beside it.
//!
//! A durable inbox for idempotent handlers, transactions in which a handler's writes, its record and its events commit
//! together ([`Tx`]), and an outbox with the relay that publishes from it. SQLite and PostgreSQL do the same under the
//! same file names; what they share stands here and knows neither.

mod error;
mod first;
mod group;
mod inbox;
mod log;
mod outbox;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod relay;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
mod stored;
mod transactions;
mod tx;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use self::first::Puts;
pub(crate) use self::first::StoreFirst;
pub(crate) use self::inbox::StoreInbox;
use self::log::Records;
pub use self::log::{EventLog, Fate, LogFilter, LogStatus, LoggedEvent};
pub(crate) use self::log::{LoggedBroker, keep_short};
use self::outbox::Via;
pub use self::outbox::{IntoOutbox, Outbox, OutboxPublish};
pub(crate) use self::relay::{Relay, RelaySettings};
use self::stored::Row;
pub(crate) use self::transactions::StoreTransactions;
pub use self::tx::{Tx, TxDatabase};

use crate::error::{Error, ErrorKind, Result};
use crate::handler::{InboxKey, OpenTransaction, Reservation};
use crate::inbox::Begun;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Kind {
    /// Its name, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "SQLite",
            #[cfg(feature = "postgres")]
            Self::Postgres => "PostgreSQL",
        }
    }

    /// The type in `Tx<..>`.
    pub(crate) fn parameter(self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "Sqlite",
            #[cfg(feature = "postgres")]
            Self::Postgres => "Postgres",
        }
    }
}

/// A key that somebody has reserved, and the number only he knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    key: Vec<u8>,
    token: i64,
}

/// A message of the outbox that is to be published.
#[derive(Debug)]
pub(crate) struct Waiting {
    seq: i64,
    /// How often it was refused.
    attempts: u32,
    row: Row,
}

/// A message that was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    seq: i64,
    after: Duration,
    error: String,
}

/// How much is in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Backlog {
    /// Up to [`BACKLOG_COUNTED_MAX`].
    pub(crate) pending: u64,
    /// Of those, how many were refused and are tried again.
    pub(crate) refused: u64,
    /// Since when the oldest of them is there.
    pub(crate) oldest: Duration,
}

/// Counting on would cost more than it tells.
const BACKLOG_COUNTED_MAX: i64 = 100_000;

/// What a database does for the store. Times are the database's own; every call ends in its time.
pub(crate) trait Database: Records + Puts + fmt::Debug + Send + Sync + 'static {
    fn kind(&self) -> Kind;

    /// The number of a subscription, given on first sight.
    fn subscriber(&self, group: String, name: String) -> BoxFuture<'_, Result<i64>>;

    /// Reserves a key that is absent or whose time is over. Need not survive a power failure.
    fn reserve(&self, subscriber: i64, held: Held, lease: Duration) -> BoxFuture<'_, Result<Reservation>>;

    /// Prolongs reservations that still stand.
    fn renew(&self, subscriber: i64, held: Vec<Held>, lease: Duration) -> BoxFuture<'_, Result<()>>;

    /// Records keys as applied, durably; answers of how many it could, since the others were taken over.
    fn record(&self, subscriber: i64, held: Vec<Held>, window: Duration) -> BoxFuture<'_, Result<u64>>;

    /// Ends reservations that still stand.
    fn release(&self, subscriber: i64, held: Vec<Held>) -> BoxFuture<'_, Result<()>>;

    /// Removes a bounded number of keys whose time is over, and answers of how many.
    fn prune(&self, max: u32) -> BoxFuture<'_, Result<u64>>;

    /// Begins a transaction with the records of keys as its first statement. A session that is idle within it for longer
    /// than `idle` may be ended by the database.
    fn begin(&self, subscriber: i64, keys: Vec<Vec<u8>>, window: Duration, idle: Option<Duration>) -> BoxFuture<'_, Result<Begun>>;

    /// Writes the outbox, makes sure that the transaction still holds its records, and commits. Answers whether it put
    /// anything into the outbox.
    fn commit(&self, open: OpenTransaction, rows: Vec<Row>) -> BoxFuture<'_, Result<bool>>;

    /// Writes into the outbox in somebody's transaction.
    fn publish<'a>(&'a self, via: Via<'a>, rows: Vec<Row>) -> BoxFuture<'a, Result<()>>;

    fn roll_back(&self, open: OpenTransaction) -> BoxFuture<'_, ()>;

    /// Takes the relay's lane if it is free, and answers the token of whoever has it now.
    fn take_lane(&self, lane: i64, lease: Duration) -> BoxFuture<'_, Result<Option<i64>>>;

    /// Prolongs the lane's lease, if the token still holds.
    fn keep_lane(&self, lane: i64, token: i64, lease: Duration) -> BoxFuture<'_, Result<bool>>;

    /// Ends the lane's lease, if the token still holds.
    fn leave_lane(&self, lane: i64, token: i64) -> BoxFuture<'_, Result<()>>;

    /// What is to be published now, in order: at most so many, none behind a refused one of its key.
    fn waiting(&self, max: u32) -> BoxFuture<'_, Result<Vec<Waiting>>>;

    /// Removes what was published and notes what was refused, if the lane's token still holds, which prolongs its lease.
    fn settle(&self, lane: (i64, i64, Duration), sent: Vec<i64>, refused: Vec<Refused>) -> BoxFuture<'_, Result<bool>>;

    /// How much waits.
    fn backlog(&self) -> BoxFuture<'_, Result<Backlog>>;

    fn close(&self) -> BoxFuture<'_, ()>;
}

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) database: Arc<dyn Database>,
    /// Whether the broker writes to the same SQLite file, where one open transaction keeps all others waiting.
    pub(crate) excludes_broker: bool,
    pub(crate) relay: Relay,
}

impl Store {
    pub(crate) fn new(database: Arc<dyn Database>, excludes_broker: bool) -> Self {
        Self { relay: Relay::new(database.clone()), database, excludes_broker }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.database.kind()
    }
}

/// A key as it is stored: what sort it is, then its text. Bytes, because a user's text may hold what a database's may not.
fn key_bytes(key: &InboxKey) -> Vec<u8> {
    match key {
        InboxKey::Id(id) => format!("i{id}").into_bytes(),
        InboxKey::Text(text) => format!("t{text}").into_bytes(),
    }
}

/// How long a call may take that waits for nobody's transaction.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Bounds a call: a server that says nothing any more must not hold a lane for ever.
async fn within<T>(kind: Kind, late: ErrorKind, call: impl Future<Output = Result<T>>) -> Result<T> {
    let text = || format!("{}: no answer within {CALL_MAX:?}", kind.name());
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| Err(Error::new(late, text())))
}

/// What a lane's slot holds: a transaction with what must be known of it at its end.
pub(crate) struct Open<Db: sqlx::Database> {
    /// First, so that it is rolled back before the next one may begin.
    tx: sqlx::Transaction<'static, Db>,
    subscriber: i64,
    keys: Vec<Vec<u8>>,
    /// Whose records they are.
    token: i64,
    /// Whether anything was put into the outbox by its handler.
    published: bool,
    /// The place of the one transaction that may be open.
    _place: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// No time in a database is further away: a hundred years.
const TIME_MAX_MS: i64 = 100 * 366 * 24 * 3_600_000;

/// A duration in the milliseconds that databases count in.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).map_or(TIME_MAX_MS, |ms| ms.min(TIME_MAX_MS))
}

/// A time from the milliseconds that databases count in.
fn time_of(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}
