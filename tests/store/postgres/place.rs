//! A PostgreSQL database of a test's own, on a server of this binary's own.

use abe_events::sqlx::postgres::PgPoolOptions;
use abe_events::sqlx::{self, PgPool, Postgres};

use crate::server::Server;

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

    /// How a statement names one of the store's tables.
    pub(crate) fn table(name: &str) -> String {
        format!("abe_events.abe_{name}")
    }
}
