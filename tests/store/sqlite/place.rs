//! A SQLite file of a test's own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use abe_events::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use abe_events::sqlx::{self, Sqlite, SqlitePool};

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
