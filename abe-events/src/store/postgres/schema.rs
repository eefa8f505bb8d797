//! The schema: which tables must be there, made or brought up to date by one process at a time.

use sqlx::PgPool;

use super::super::{Kind, error};
use crate::error::{Error, ErrorKind, Result};

/// Each step leads from the version of its place to the next; steps are only ever added.
const STEPS: &[&str] = &[include_str!("schema.sql"), include_str!("log.sql")];

/// The class of our advisory locks, so that no other program is kept waiting: `abes`.
const LOCK_CLASS: i32 = 0x6162_6573;

/// Brings the tables up to date, forward only; or, if it may not make any, makes sure that they are.
pub(super) async fn prepare(pool: &PgPool, schema: &str, migrates: bool) -> Result<()> {
    let version = if migrates { migrate(pool, schema, STEPS).await } else { look(pool, schema).await };
    let version = version.map_err(|error| error::unusable(Kind::Postgres, &error))?;
    let known = STEPS.len() as i64;
    if version > known {
        let text =
            format!("PostgreSQL: the store's tables have version {version}, this build of abe-events knows {known}; use a newer one");
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    if version < known && !migrates {
        let text = format!("PostgreSQL: the store's tables have version {version}, and {known} is needed; start once with `migrate=on`");
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(())
}

async fn migrate(pool: &PgPool, schema: &str, steps: &[&str]) -> Result<i64, sqlx::Error> {
    let known = steps.len() as i64;
    let mut tx = pool.begin().await?;
    // Until the end of the transaction: `IF NOT EXISTS` alone races with others, and fails one of them.
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))").bind(LOCK_CLASS).bind(schema).execute(&mut *tx).await?;
    let exists = exists(&mut tx, schema).await?;
    if !exists {
        let make =
            format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"; CREATE TABLE \"{schema}\".abe_store_schema (version bigint NOT NULL)");
        sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&mut *tx).await?;
    }
    let version = version(&mut tx, schema).await?;
    if version < known {
        for step in steps.iter().skip(usize::try_from(version).unwrap_or(0)) {
            let step = step.replace("{s}", &format!("\"{schema}\""));
            sqlx::raw_sql(sqlx::AssertSqlSafe(step)).execute(&mut *tx).await?;
        }
        let set = format!("DELETE FROM \"{schema}\".abe_store_schema; INSERT INTO \"{schema}\".abe_store_schema VALUES ({known})");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(version.max(known))
}

/// The version that is there; 0 for none.
async fn look(pool: &PgPool, schema: &str) -> Result<i64, sqlx::Error> {
    let mut tx = pool.begin().await?;
    if exists(&mut tx, schema).await? { version(&mut tx, schema).await } else { Ok(0) }
}

async fn exists(tx: &mut sqlx::PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
    let find = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'abe_store_schema')";
    sqlx::query_scalar(find).bind(schema).fetch_one(tx).await
}

async fn version(tx: &mut sqlx::PgConnection, schema: &str) -> Result<i64, sqlx::Error> {
    let find = format!("SELECT coalesce(max(version), 0) FROM \"{schema}\".abe_store_schema");
    sqlx::query_scalar(sqlx::AssertSqlSafe(find)).fetch_one(tx).await
}

/// What a server must not be set to.
pub(super) async fn advise(pool: &PgPool) -> Result<()> {
    let find = "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let (fsync, pages, commit): (String, String, String) =
        sqlx::query_as(find).fetch_one(pool).await.map_err(|error| error::unusable(Kind::Postgres, &error))?;
    for (name, value) in [("fsync", fsync), ("full_page_writes", pages), ("synchronous_commit", commit)] {
        if value == "off" {
            tracing::warn!("the server's `{name}` is off: a crash may undo what was acked; set it to on");
        }
    }
    Ok(())
}
