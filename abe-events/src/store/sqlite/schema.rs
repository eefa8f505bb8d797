//! Which tables must be there.

use std::time::Duration;

use sqlx::SqlitePool;

use super::super::{Kind, error};
use crate::error::{Error, ErrorKind, Result};

/// Each step leads from the version of its place to the next; steps are only ever added.
const STEPS: &[&str] = &[include_str!("schema.sql"), include_str!("log.sql")];

/// The first version in which resetting the write-ahead log cannot damage the file.
const LIBRARY_MIN: (u32, u32, u32) = (3, 51, 3);

/// How often a file that others are opening at the same moment is tried again.
const TRIES: u32 = 50;

/// Brings the tables up to date, forward only, one process at a time.
pub(super) async fn prepare(pool: &SqlitePool) -> Result<()> {
    let mut tries = 0;
    loop {
        match migrate(pool, STEPS).await {
            // Several that switch a new file to its write-ahead log at once are told off, and not made to wait.
            Err(sqlx::Error::Database(refusal)) if tries < TRIES && is_locked(refusal.code().as_deref()) => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(5 + fastrand::u64(0..20))).await;
            }
            Err(error) => return Err(error::unusable(Kind::Sqlite, &error)),
            Ok(known) if known > STEPS.len() as i64 => {
                let text = format!(
                    "SQLite: the store's tables have version {known}, this build of abe-events knows {}; use a newer one",
                    STEPS.len()
                );
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            Ok(_) => return check_library(pool).await,
        }
    }
}

fn is_locked(code: Option<&str>) -> bool {
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// The version is kept in a table of ours: `user_version` belongs to the program whose database this may be, and the broker
/// has a version of its own.
async fn migrate(pool: &SqlitePool, steps: &'static [&'static str]) -> Result<i64, sqlx::Error> {
    let known = steps.len() as i64;
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS abe_store_schema (version INTEGER NOT NULL) STRICT").execute(&mut *tx).await?;
    let version: Option<i64> = sqlx::query_scalar("SELECT version FROM abe_store_schema").fetch_optional(&mut *tx).await?;
    let version = version.unwrap_or(0);
    if version < known {
        for step in steps.iter().skip(usize::try_from(version).unwrap_or(0)) {
            sqlx::raw_sql(*step).execute(&mut *tx).await?;
        }
        sqlx::query("DELETE FROM abe_store_schema").execute(&mut *tx).await?;
        sqlx::query("INSERT INTO abe_store_schema (version) VALUES (?1)").bind(known).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(version)
}

async fn check_library(pool: &SqlitePool) -> Result<()> {
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(pool).await.map_err(|error| error::unusable(Kind::Sqlite, &error))?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    if (part(), part(), part()) >= LIBRARY_MIN {
        return Ok(());
    }
    let text = format!("SQLite: the library is {version}, whose write-ahead log can damage the file; 3.51.3 or newer is needed");
    Err(Error::new(ErrorKind::Unsupported, text))
}

/// What a user's pool should be, and may not be.
pub(super) async fn advise(pool: &SqlitePool) -> Result<()> {
    let ask = async |pragma: &'static str| -> Result<String, sqlx::Error> {
        // Some answer with a number, some with a word.
        let row = sqlx::query(pragma).fetch_one(pool).await?;
        sqlx::Row::try_get::<String, _>(&row, 0).or_else(|_| sqlx::Row::try_get::<i64, _>(&row, 0).map(|number| number.to_string()))
    };
    let both = async { Ok::<_, sqlx::Error>((ask("PRAGMA journal_mode").await?, ask("PRAGMA synchronous").await?)) };
    let (mode, synchronous) = both.await.map_err(|error| error::unusable(Kind::Sqlite, &error))?;
    if mode != "wal" {
        tracing::warn!(mode, "the pool's file has no write-ahead log: readers and writers wait for each other; set `journal_mode(Wal)`");
    }
    if !matches!(synchronous.as_str(), "2" | "3") {
        tracing::warn!("the pool's commits are not synced: a power failure may undo what was acked; set `synchronous(Full)`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    async fn in_memory() -> SqlitePool {
        SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap()
    }

    #[tokio::test]
    async fn tables_go_forward_step_by_step_and_never_back() {
        const MORE: &[&str] = &[STEPS[0], STEPS[1], "CREATE TABLE abe_second (a INTEGER) STRICT"];
        let pool = in_memory().await;
        assert_eq!(migrate(&pool, STEPS).await.unwrap(), 0);
        assert_eq!(migrate(&pool, STEPS).await.unwrap(), 2);
        assert_eq!(migrate(&pool, MORE).await.unwrap(), 2);
        sqlx::query("INSERT INTO abe_second VALUES (1)").execute(&pool).await.unwrap();
        let error = prepare(&pool).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("version 3"), "{error}");
    }

    #[tokio::test]
    async fn a_step_that_fails_leaves_nothing() {
        const BAD: &[&str] = &[STEPS[0], STEPS[1], "CREATE TABLE abe_second (a INTEGER) STRICT; CREATE nonsense"];
        let pool = in_memory().await;
        migrate(&pool, BAD).await.unwrap_err();
        assert_eq!(migrate(&pool, STEPS).await.unwrap(), 0);
        prepare(&pool).await.unwrap();
    }
}
