//! Opening the file: how the connection is set up, and which tables must be there.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::config::{SqliteBrokerBuilder, Synchronous};
use super::error::{Fault, unusable};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::sqlite_file;

/// Each step leads from the version of its place to the next; steps are only ever added.
const STEPS: &[&str] = &[include_str!("schema.sql")];

/// The first version in which resetting the write-ahead log cannot damage the file.
const LIBRARY_MIN: i32 = 3_051_003;

/// How large the write-ahead log stays when there is nothing in it.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// Opens the file and brings its tables up to date.
pub(super) fn open(builder: &SqliteBrokerBuilder) -> Result<Connection> {
    check_library(rusqlite::version_number())?;
    sqlite_file::create(&builder.path)?;
    // No URIs: a `?` or `%` in a name is a part of the name.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&builder.path, flags).map_err(|fault| unusable(&fault))?;
    set_up(&connection, builder).map_err(|fault| unusable(&fault))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(|fault| unusable(&fault))?;
    if mode != "wal" {
        let text = "sqlite: the file's place cannot keep a write-ahead log; use a folder on a local disk";
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    migrate(&mut connection, STEPS)?;
    Ok(connection)
}

fn check_library(version: i32) -> Result<()> {
    if version >= LIBRARY_MIN {
        return Ok(());
    }
    let text = format!(
        "sqlite: the library is {}.{}.{}, whose write-ahead log can damage the file; 3.51.3 or newer is needed",
        version / 1_000_000,
        version / 1_000 % 1_000,
        version % 1_000
    );
    Err(Error::new(ErrorKind::Unsupported, text))
}

fn set_up(connection: &Connection, builder: &SqliteBrokerBuilder) -> Result<(), Fault> {
    connection.busy_timeout(builder.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let synchronous = match builder.synchronous {
        _ if crate::mutant::is("sqlite-unsynced") => "NORMAL",
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

/// Brings the tables up to date, forward only, one process at a time.
///
/// The version is kept in a table of ours: `user_version` belongs to the program whose database this may be.
fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<()> {
    let run = |connection: &mut Connection| -> Result<i64, Fault> {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch("CREATE TABLE IF NOT EXISTS abe_schema (version INTEGER NOT NULL) STRICT")?;
        let version: Option<i64> = tx.query_row("SELECT version FROM abe_schema", [], |row| row.get(0)).optional()?;
        let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
        let version = version.unwrap_or(0);
        if version < known {
            for step in steps.iter().skip(usize::try_from(version).unwrap_or(0)) {
                tx.execute_batch(step)?;
            }
            tx.execute("DELETE FROM abe_schema", [])?;
            tx.execute("INSERT INTO abe_schema (version) VALUES (?1)", [known])?;
        }
        tx.commit()?;
        Ok(version)
    };
    let version = run(connection).map_err(|fault| unusable(&fault))?;
    if version > i64::try_from(steps.len()).unwrap_or(i64::MAX) {
        let text =
            format!("sqlite: the file's tables have version {version}, this build of abe-events knows {}; use a newer one", steps.len());
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_library_is_refused_by_its_version() {
        assert!(check_library(rusqlite::version_number()).is_ok());
        let error = check_library(3_040_001).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("3.40.1"), "{error}");
    }

    #[test]
    fn tables_go_forward_step_by_step_and_never_back() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, STEPS).unwrap();
        migrate(&mut connection, STEPS).unwrap();
        let mut more = STEPS.to_vec();
        more.push("CREATE TABLE abe_second (a INTEGER) STRICT");
        migrate(&mut connection, &more).unwrap();
        connection.execute("INSERT INTO abe_second VALUES (1)", []).unwrap();
        let error = migrate(&mut connection, STEPS).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn a_step_that_fails_leaves_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        let bad = [STEPS[0], "CREATE TABLE abe_second (a INTEGER) STRICT; CREATE nonsense"];
        migrate(&mut connection, &bad).unwrap_err();
        migrate(&mut connection, STEPS).unwrap();
    }
}
