//! The store in a SQLite file.
//!
//! One transaction at a time may write to the file, so those of this process queue up here, in order, instead of looking
//! again and again whether the file is free. Other processes and the broker's own connection are waited for by SQLite.

mod inbox;
mod log;
mod outbox;
mod relay;
mod schema;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::stored::Row;
use super::{Backlog, Database, Held, Kind, Open, Refused, Via, Waiting, error, within};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{OpenTransaction, Reservation};
use crate::inbox::Begun;

/// Now, in milliseconds, as SQL.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}
use now;

/// How long a transaction waits for another process's.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// How many connections the store's own pool has: one writes, the others read.
const CONNECTIONS: u32 = 4;

/// How large the write-ahead log stays when there is nothing in it.
const LOG_BYTES: &str = "67108864";

/// Which file, and when a commit counts as done.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    /// When the disk says it has it; otherwise when the operating system has it.
    pub(crate) full: bool,
}

/// A store in a SQLite file.
pub(crate) struct SqliteStore {
    /// Where commits are durable.
    pool: SqlitePool,
    /// Where they need not be: one connection, unless the user's pool is all there is.
    quick: SqlitePool,
    /// Whoever writes goes through here.
    gate: Arc<Semaphore>,
    /// Whether the pools are ours to close.
    owned: bool,
}

impl SqliteStore {
    /// Opens the file, or makes it for its owner only, and brings its tables up to date.
    pub(crate) async fn open(settings: &Settings) -> Result<Self> {
        crate::sql::sqlite_file::create(&settings.path)?;
        let durable = if settings.full { SqliteSynchronous::Full } else { SqliteSynchronous::Normal };
        let pool = pool(&settings.path, durable, CONNECTIONS);
        let quick = pool_of_one(&settings.path);
        let store = Self { pool, quick, gate: Arc::new(Semaphore::new(1)), owned: true };
        match schema::prepare(&store.pool).await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// A store through a user's own pool.
    pub(crate) async fn through(pool: SqlitePool) -> Result<Self> {
        schema::prepare(&pool).await?;
        schema::advise(&pool).await?;
        Ok(Self { quick: pool.clone(), pool, gate: Arc::new(Semaphore::new(1)), owned: false })
    }

    /// Waits until nobody else of this process writes.
    async fn place(&self) -> Result<OwnedSemaphorePermit> {
        self.gate.clone().acquire_owned().await.map_err(|_| Error::new(ErrorKind::Closed, "the store is closed"))
    }

    /// Begins to write, in its turn.
    async fn write(&self, pool: &SqlitePool) -> Result<Write> {
        let place = self.place().await?;
        let tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(not_stored)?;
        Ok(Write { tx, _place: place })
    }
}

/// A transaction of the store's own.
struct Write {
    /// First, so that it is rolled back before the next one may begin.
    tx: Transaction<'static, Sqlite>,
    _place: OwnedSemaphorePermit,
}

impl Write {
    async fn commit(self) -> Result<()> {
        self.tx.commit().await.map_err(|error| error::of_commit(Kind::Sqlite, &error))
    }
}

fn options(path: &std::path::Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(BUSY_MAX)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("trusted_schema", "OFF")
        .pragma("temp_store", "MEMORY")
        .pragma("journal_size_limit", LOG_BYTES)
}

fn pool(path: &std::path::Path, synchronous: SqliteSynchronous, connections: u32) -> SqlitePool {
    // A file does not go away between two statements.
    let pool = SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
    pool.connect_lazy_with(options(path, synchronous))
}

fn pool_of_one(path: &std::path::Path) -> SqlitePool {
    pool(path, SqliteSynchronous::Normal, 1)
}

/// A statement failed.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn not_stored(error: sqlx::Error) -> Error {
    error::not_stored(Kind::Sqlite, &error)
}

/// Bytes as SQLite's `unhex` reads them.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)] as char, DIGITS[usize::from(byte & 15)] as char]).collect()
}

/// A list that a statement of any length reads with `json_each`: one text for all, so that it is prepared once.
fn json<T: serde::Serialize>(list: &[T]) -> Result<String> {
    serde_json::to_string(list).map_err(|error| Error::new(ErrorKind::Encode, error.to_string()))
}

impl Database for SqliteStore {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    fn subscriber(&self, group: String, name: String) -> BoxFuture<'_, Result<i64>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, inbox::subscriber(self, group, name)))
    }

    fn reserve(&self, subscriber: i64, held: Held, lease: Duration) -> BoxFuture<'_, Result<Reservation>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, inbox::reserve(self, subscriber, held, lease)))
    }

    fn renew(&self, subscriber: i64, held: Vec<Held>, lease: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, inbox::renew(self, subscriber, held, lease)))
    }

    fn record(&self, subscriber: i64, held: Vec<Held>, window: Duration) -> BoxFuture<'_, Result<u64>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, inbox::record(self, subscriber, held, window)))
    }

    fn release(&self, subscriber: i64, held: Vec<Held>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, inbox::release(self, subscriber, held)))
    }

    fn prune(&self, max: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, inbox::prune(self, max)))
    }

    fn begin(&self, subscriber: i64, keys: Vec<Vec<u8>>, window: Duration, _: Option<Duration>) -> BoxFuture<'_, Result<Begun>> {
        // Not bounded: it waits for the handlers before it, and the lane gives up when it must.
        Box::pin(inbox::begin(self, subscriber, keys, window))
    }

    fn commit(&self, open: OpenTransaction, rows: Vec<Row>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Unknown, inbox::commit(open, rows)))
    }

    fn publish<'a>(&'a self, via: Via<'a>, rows: Vec<Row>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match via {
                Via::Sqlite(connection) => outbox::insert(connection, &rows).await,
                #[cfg(feature = "postgres")]
                Via::Postgres(_) => {
                    let text = "the runtime's store is SQLite, and the transaction is of PostgreSQL: nothing would be published from it";
                    Err(Error::new(ErrorKind::Unsupported, text))
                }
            }
        })
    }

    fn roll_back(&self, open: OpenTransaction) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Ok(open) = open.downcast::<Open<Sqlite>>() {
                let Open { tx, _place, .. } = *open;
                // Given up in time, it is dropped, and rolled back all the same.
                let _ = tokio::time::timeout(BUSY_MAX, tx.rollback()).await;
            }
        })
    }

    fn take_lane(&self, lane: i64, lease: Duration) -> BoxFuture<'_, Result<Option<i64>>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, relay::take_lane(self, lane, lease)))
    }

    fn keep_lane(&self, lane: i64, token: i64, lease: Duration) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, relay::keep_lane(self, lane, token, lease)))
    }

    fn leave_lane(&self, lane: i64, token: i64) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, relay::leave_lane(self, lane, token)))
    }

    fn waiting(&self, max: u32) -> BoxFuture<'_, Result<Vec<Waiting>>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, outbox::waiting(self, max)))
    }

    fn settle(&self, lane: (i64, i64, Duration), sent: Vec<i64>, refused: Vec<Refused>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, relay::settle(self, lane, sent, refused)))
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Backlog>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, outbox::backlog(self)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.owned {
                let both = async { tokio::join!(self.pool.close(), self.quick.close()) };
                let _ = tokio::time::timeout(BUSY_MAX, both).await;
            }
        })
    }
}

// A path may tell what must not reach a log.
impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("owned", &self.owned).finish_non_exhaustive()
    }
}
