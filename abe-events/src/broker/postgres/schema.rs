//! Which tables must be there, and what the server must be set to.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::Durability;
use super::db::{Db, Values};
use super::error::{Fault, describe};
use crate::error::{Error, ErrorKind, Result};

/// Each step leads from the version of its place to the next; steps are only ever added.
const STEPS: &[&str] = &[include_str!("schema.sql")];

/// Ours among the advisory locks of a database.
const LOCKS: i32 = 0x6162_6531;

/// The first version with every setting of our tables.
const SERVER_MIN: i32 = 130_000;

/// Looks at the server, and brings its tables up to date if that is wanted and necessary. Answers what a commit survives.
pub(super) async fn prepare(db: &Db, migrate: bool) -> Result<Durability> {
    let durability = look(db).await?;
    // First without a lock: a role that may create nothing needs nothing created on most days.
    let version = version(db).await.map_err(|fault| fault.failed())?;
    let known = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    match version {
        Some(version) if version > known => Err(newer(version)),
        Some(version) if version == known => Ok(durability),
        _ if migrate => {
            bring_up(db, STEPS).await?;
            Ok(durability)
        }
        _ => {
            let text = "postgres: the tables are missing or old, and `migrate=off`; open it once with a role that may create them";
            Err(Error::new(ErrorKind::Unsupported, text))
        }
    }
}

async fn look(db: &Db) -> Result<Durability> {
    let sql = db.sql(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_setting('fsync'), \
         current_setting('full_page_writes'), current_setting('synchronous_commit')",
    );
    let rows = db.run(&sql, Values::default()).await.map_err(|fault| Error::new(ErrorKind::Broker, fault.failed().to_string()))?;
    let read = |row: &PgRow| -> Result<(i32, [String; 4]), sqlx::Error> {
        Ok((row.try_get(0)?, [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?]))
    };
    let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Broker, "postgres: the server tells nothing of itself"))?;
    let (version, [encoding, fsync, pages, commit]) = read(row).map_err(|error| Error::new(ErrorKind::Broker, describe(&error)))?;
    if version < SERVER_MIN {
        let text = format!("postgres: the server has version {}, 13 or newer is needed", version / 10_000);
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    if encoding != "UTF8" {
        return Err(Error::new(ErrorKind::Unsupported, "postgres: the database keeps text in another encoding than UTF-8"));
    }
    Ok(durability(&fsync, &pages, &commit))
}

/// What a commit survives with these settings; what is weaker than usual is said.
fn durability(fsync: &str, pages: &str, commit: &str) -> Durability {
    if commit == "off" {
        tracing::warn!("postgres: synchronous_commit is off here: a crash of the server loses what was published last");
        return Durability::Restart;
    }
    if fsync != "on" || pages != "on" {
        tracing::warn!("postgres: fsync or full_page_writes is off: a power failure may damage everything");
        return Durability::ServerCrash;
    }
    Durability::PowerLoss
}

async fn version(db: &Db) -> Result<Option<i32>, Fault> {
    let there = db.run(&db.sql("SELECT to_regclass($1) IS NOT NULL"), Values::default().and(format!("\"{}\".schema_version", db.schema))).await?;
    if there.first().and_then(|row| row.try_get(0).ok()) != Some(true) {
        return Ok(None);
    }
    let rows = db.run(&db.sql("SELECT version FROM {s}.schema_version"), Values::default()).await?;
    Ok(rows.first().and_then(|row| row.try_get(0).ok()))
}

/// Brings the tables up to date, forward only, one process at a time: all of it or nothing.
async fn bring_up(db: &Db, steps: &[&str]) -> Result<()> {
    let failed = |error: sqlx::Error| Error::new(ErrorKind::Broker, describe(&error));
    let mut connection = db.pool.acquire().await.map_err(failed)?;
    let mut tx = connection.begin().await.map_err(failed)?;
    let held = migrate(&mut tx, db, steps).await.map_err(failed)?;
    if held > i32::try_from(steps.len()).unwrap_or(i32::MAX) {
        return Err(newer(held));
    }
    tx.commit().await.map_err(failed)
}

async fn migrate(tx: &mut PgConnection, db: &Db, steps: &[&str]) -> Result<i32, sqlx::Error> {
    let run = |text: &str| sqlx::raw_sql(AssertSqlSafe(db.sql(text)));
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))").persistent(false).bind(LOCKS).bind(&*db.schema).execute(&mut *tx).await?;
    // Asked first, for the right to create is demanded even where there is nothing to do.
    let there = sqlx::query("SELECT to_regnamespace($1) IS NOT NULL").persistent(false).bind(format!("\"{}\"", db.schema)).fetch_all(&mut *tx).await?;
    if !there.first().map_or(Ok(false), |row| row.try_get(0))? {
        run("CREATE SCHEMA {s}").execute(&mut *tx).await?;
    }
    run("CREATE TABLE IF NOT EXISTS {s}.schema_version (version integer NOT NULL)").execute(&mut *tx).await?;
    let rows = run("SELECT version::text FROM {s}.schema_version").fetch_all(&mut *tx).await?;
    let held: Option<String> = rows.first().map(|row| row.try_get(0)).transpose()?;
    let held: i32 = held.and_then(|held| held.parse().ok()).unwrap_or(0);
    let known = i32::try_from(steps.len()).unwrap_or(i32::MAX);
    if held < known {
        for step in steps.iter().skip(usize::try_from(held).unwrap_or(0)) {
            run(step).execute(&mut *tx).await?;
        }
        run(&format!("DELETE FROM {{s}}.schema_version; INSERT INTO {{s}}.schema_version (version) VALUES ({known})")).execute(&mut *tx).await?;
    }
    Ok(held)
}

fn newer(version: i32) -> Error {
    let text = format!("postgres: the tables have version {version}, this build of abe-events knows {}; use a newer one", STEPS.len());
    Error::new(ErrorKind::Unsupported, text)
}
