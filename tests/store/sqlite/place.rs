//! A SQLite file of a test's own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use abe_events::RuntimeBuilder;
use abe_events::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use abe_events::sqlx::{self, Sqlite, SqlitePool};

use crate::support::builder;

/// The database of these cases.
pub(crate) type Db = Sqlite;

/// A file, removed at the end, with the tables that handlers write to.
pub(crate) struct Place {
    folder: PathBuf,
    /// The store.
    pub(crate) url: String,
    /// The test's own way to it.
    pub(crate) pool: SqlitePool,
}

impl Place {
    pub(crate) async fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("abe-events-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut place = Self::at(&folder.join("store.db").display().to_string()).await;
        place.folder = folder;
        Some(place)
    }

    /// The same from another process.
    pub(crate) async fn at(path: &str) -> Self {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await.unwrap();
        for table in ["CREATE TABLE IF NOT EXISTS effect (number BIGINT NOT NULL, note TEXT NOT NULL)"] {
            sqlx::query(table).execute(&pool).await.unwrap();
        }
        Self { folder: PathBuf::new(), url: format!("sqlite://{path}"), pool }
    }

    /// The URL of a store of another kind.
    pub(crate) async fn other() -> Option<String> {
        #[cfg(feature = "postgres")]
        return tokio::task::spawn_blocking(|| Some(crate::server::Server::shared()?.database("other"))).await.unwrap();
        #[cfg(not(feature = "postgres"))]
        None
    }

    /// A builder whose store is in the test's own pool.
    pub(crate) fn builder(&self) -> RuntimeBuilder {
        builder().sqlite_pool(self.pool.clone())
    }

    /// A key, a truth and a time from now, as a statement has them.
    pub(crate) fn literals(key: &str, truth: bool, after: Duration) -> (String, String, String) {
        let key = key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let time = format!("CAST(unixepoch('subsec') * 1000 AS INTEGER) + {}", after.as_millis());
        (format!("x'{key}'"), u8::from(truth).to_string(), time)
    }

    /// The column that says until when a relay has its lane.
    pub(crate) fn lane_time() -> &'static str {
        "until_ms"
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(pool: &SqlitePool) -> sqlx::Result<sqlx::Transaction<'static, Sqlite>> {
        pool.begin_with("BEGIN IMMEDIATE").await
    }

    /// How a statement names one of the store's tables.
    pub(crate) fn table(name: &str) -> String {
        format!("abe_{name}")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.folder.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
