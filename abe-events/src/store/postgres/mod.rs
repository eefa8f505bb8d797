//! The store in a PostgreSQL database, in a schema of its own.
//!
//! Times are the database's (`clock_timestamp()`, since `now()` is when a transaction began), names are qualified, and no
//! statement is sent for each of many messages.

mod inbox;
mod log;
mod outbox;
mod relay;
mod schema;
mod statements;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres};

use self::statements::Statements;
use super::stored::Row;
use super::{Backlog, Database, Held, Kind, Open, Refused, Via, Waiting, error, within};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{OpenTransaction, Reservation};
use crate::inbox::Begun;
use crate::sql::postgres_url::{PostgresUrl, SCHEMA};

/// How long a rollback is waited for; then its connection is dropped, which rolls back as well.
const ROLL_BACK_MAX: Duration = Duration::from_secs(5);

/// What is prepared in one transaction is looked for in the next, in a session that somebody else has by then.
const BEHIND_A_POOLER: &str = "the store cannot work behind a pooler in transaction mode (`pooler=transaction`): give `event.store` a \
    URL that leads to the server itself, or to a pooler in session mode; the broker's URL may keep its pooler";

/// A store in a PostgreSQL database.
pub(crate) struct PostgresStore {
    pool: PgPool,
    statements: Arc<Statements>,
    /// Whether the pool is ours to close.
    owned: bool,
}

impl PostgresStore {
    /// Connects, and brings the tables up to date.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let url = PostgresUrl::parse(url, &[])?;
        if url.pooler {
            return Err(Error::new(ErrorKind::Config, BEHIND_A_POOLER));
        }
        let options = url.options.extra_float_digits(None);
        let pool = PgPoolOptions::new().max_connections(url.connections).acquire_timeout(url.connect_timeout.max(Duration::from_secs(30)));
        let store = Self { pool: pool.connect_lazy_with(options), statements: Arc::new(Statements::new(&url.schema)), owned: true };
        let prepared = async {
            schema::prepare(&store.pool, &url.schema, url.migrate).await?;
            schema::advise(&store.pool).await
        };
        match prepared.await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// A store through a user's own pool.
    pub(crate) async fn through(pool: PgPool) -> Result<Self> {
        schema::prepare(&pool, SCHEMA, true).await?;
        schema::advise(&pool).await?;
        Ok(Self { pool, statements: Arc::new(Statements::new(SCHEMA)), owned: false })
    }
}

/// A statement failed.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn not_stored(error: sqlx::Error) -> Error {
    error::not_stored(Kind::Postgres, &error)
}

impl Database for PostgresStore {
    fn kind(&self) -> Kind {
        Kind::Postgres
    }

    fn subscriber(&self, group: String, name: String) -> BoxFuture<'_, Result<i64>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, inbox::subscriber(self, group, name)))
    }

    fn reserve(&self, subscriber: i64, held: Held, lease: Duration) -> BoxFuture<'_, Result<Reservation>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, inbox::reserve(self, subscriber, held, lease)))
    }

    fn renew(&self, subscriber: i64, held: Vec<Held>, lease: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, inbox::renew(self, subscriber, held, lease)))
    }

    fn record(&self, subscriber: i64, held: Vec<Held>, window: Duration) -> BoxFuture<'_, Result<u64>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, inbox::record(self, subscriber, held, window)))
    }

    fn release(&self, subscriber: i64, held: Vec<Held>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, inbox::release(self, subscriber, held)))
    }

    fn prune(&self, max: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, inbox::prune(self, max)))
    }

    fn begin(&self, subscriber: i64, keys: Vec<Vec<u8>>, window: Duration, idle: Option<Duration>) -> BoxFuture<'_, Result<Begun>> {
        // Not bounded: it waits for whoever handles the same message, and the lane gives up when it must.
        Box::pin(inbox::begin(self, subscriber, keys, window, idle))
    }

    fn commit(&self, open: OpenTransaction, rows: Vec<Row>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Unknown, inbox::commit(self, open, rows)))
    }

    fn publish<'a>(&'a self, via: Via<'a>, rows: Vec<Row>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match via {
                Via::Postgres(connection) => outbox::insert(connection, &self.statements, rows).await,
                #[cfg(feature = "sqlite")]
                Via::Sqlite(_) => {
                    let text = "the runtime's store is PostgreSQL, and the transaction is of SQLite: nothing would be published from it";
                    Err(Error::new(ErrorKind::Unsupported, text))
                }
            }
        })
    }

    fn roll_back(&self, open: OpenTransaction) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Ok(open) = open.downcast::<Open<Postgres>>() {
                let _ = tokio::time::timeout(ROLL_BACK_MAX, open.tx.rollback()).await;
            }
        })
    }

    fn take_lane(&self, lane: i64, lease: Duration) -> BoxFuture<'_, Result<Option<i64>>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, relay::take_lane(self, lane, lease)))
    }

    fn keep_lane(&self, lane: i64, token: i64, lease: Duration) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, relay::keep_lane(self, lane, token, lease)))
    }

    fn leave_lane(&self, lane: i64, token: i64) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, relay::leave_lane(self, lane, token)))
    }

    fn waiting(&self, max: u32) -> BoxFuture<'_, Result<Vec<Waiting>>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, outbox::waiting(self, max)))
    }

    fn settle(&self, lane: (i64, i64, Duration), sent: Vec<i64>, refused: Vec<Refused>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, relay::settle(self, lane, sent, refused)))
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Backlog>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, outbox::backlog(self)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.owned {
                let _ = tokio::time::timeout(ROLL_BACK_MAX, self.pool.close()).await;
            }
        })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("owned", &self.owned).finish_non_exhaustive()
    }
}
