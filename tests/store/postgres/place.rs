//! A PostgreSQL database of a test's own, on a server of this binary's own.

use std::time::Duration;

use abe_events::RuntimeBuilder;
use abe_events::sqlx::postgres::PgPoolOptions;
use abe_events::sqlx::{self, PgPool, Postgres};

use crate::server::Server;
use crate::support::builder;

/// The database of these cases.
pub(crate) type Db = Postgres;

/// A database with the tables that handlers write to.
pub(crate) struct Place {
    /// The store.
    pub(crate) url: String,
    /// The test's own way to it.
    pub(crate) pool: PgPool,
}

impl Place {
    /// `None` where no PostgreSQL is installed.
    pub(crate) async fn new() -> Option<Self> {
        let url = tokio::task::spawn_blocking(|| Some(Server::shared()?.database("store"))).await.unwrap()?;
        Some(Self::at(&url).await)
    }

    /// The same from another process.
    pub(crate) async fn at(url: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(8).connect(url).await.unwrap();
        let make = "SELECT pg_advisory_lock(1); CREATE TABLE IF NOT EXISTS effect (number BIGINT NOT NULL, note TEXT NOT NULL); \
                    SELECT pg_advisory_unlock(1)";
        sqlx::raw_sql(make).execute(&pool).await.unwrap();
        Self { url: url.to_owned(), pool }
    }

    /// The URL of a store of another kind.
    pub(crate) async fn other() -> Option<String> {
        // A place on SQLite is removed at its end, and this one's folder with the machine's.
        cfg!(feature = "sqlite").then(|| {
            let name = format!("abe-events-other-{}.db", std::process::id());
            format!("sqlite://{}", std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).display())
        })
    }

    /// A builder whose store is in the test's own pool.
    pub(crate) fn builder(&self) -> RuntimeBuilder {
        builder().postgres_pool(self.pool.clone())
    }

    /// A key, a truth and a time from now, as a statement has them.
    pub(crate) fn literals(key: &str, truth: bool, after: Duration) -> (String, String, String) {
        let key = key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let time = format!("clock_timestamp() + {} * interval '1 millisecond'", after.as_millis());
        (format!("'\\x{key}'"), truth.to_string(), time)
    }

    /// The column that says until when a relay has its lane.
    pub(crate) fn lane_time() -> &'static str {
        "until"
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(pool: &PgPool) -> sqlx::Result<sqlx::Transaction<'static, Postgres>> {
        pool.begin().await
    }

    /// How a statement names one of the store's tables.
    pub(crate) fn table(name: &str) -> String {
        format!("abe_events.abe_{name}")
    }
}
