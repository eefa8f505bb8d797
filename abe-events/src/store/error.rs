//! What an error of the driver means: certainly not stored, perhaps stored, or merely failed.
//!
//! Drivers' texts may hold URLs and values, so that only codes, and the names of constraints, are passed on.

use sqlx::error::{DatabaseError, ErrorKind as SqlKind};

use super::Kind;
use crate::error::{Error, ErrorKind};

/// A statement failed: what it was to change is not changed.
pub(super) fn not_stored(kind: Kind, error: &sqlx::Error) -> Error {
    let closed = matches!(error, sqlx::Error::PoolClosed);
    Error::new(if closed { ErrorKind::Closed } else { ErrorKind::NotStored }, describe(kind, error))
}

/// The commit failed: only what the database itself refused is certainly undone.
pub(super) fn of_commit(kind: Kind, error: &sqlx::Error) -> Error {
    let certain = matches!(error, sqlx::Error::Database(refusal) if is_refusal(kind, &**refusal));
    Error::new(if certain { ErrorKind::NotStored } else { ErrorKind::Unknown }, describe(kind, error))
}

/// The database cannot be used.
pub(super) fn unusable(kind: Kind, error: &sqlx::Error) -> Error {
    Error::new(ErrorKind::Broker, describe(kind, error))
}

/// Whether the database said no, rather than that it failed half-way.
fn is_refusal(kind: Kind, refusal: &dyn DatabaseError) -> bool {
    let code = refusal.code().unwrap_or_default();
    match kind {
        // Extended codes keep the primary one in their low byte: ERROR, BUSY, LOCKED, FULL, CONSTRAINT. A full disk is noticed
        // before the frame that commits is written.
        #[cfg(feature = "sqlite")]
        Kind::Sqlite => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 1 | 5 | 6 | 13 | 19)),
        // Of the classes, 08 is a lost connection, 57 an operator's hand, 58 and XX the server's own trouble.
        #[cfg(feature = "postgres")]
        Kind::Postgres => code.len() == 5 && !["08", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class)),
    }
}

fn describe(kind: Kind, error: &sqlx::Error) -> String {
    let name = kind.name();
    match error {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            match (refusal.kind(), refusal.constraint()) {
                (SqlKind::Other, _) => format!("{name}: {} (code {code})", meaning(kind, &code)),
                (_, Some(constraint)) => format!("{name}: the constraint {constraint:?} does not hold (code {code})"),
                (_, None) => format!("{name}: a constraint does not hold (code {code})"),
            }
        }
        sqlx::Error::Io(error) => format!("{name}: the connection failed: {}", error.kind()),
        sqlx::Error::Tls(_) => format!("{name}: the connection could not be encrypted"),
        sqlx::Error::PoolTimedOut => format!("{name}: no connection became free in time; give the pool as many as handlers run at once"),
        sqlx::Error::PoolClosed => format!("{name}: the pool is closed"),
        _ => format!("{name}: a statement failed"),
    }
}

fn meaning(kind: Kind, code: &str) -> &'static str {
    match kind {
        #[cfg(feature = "sqlite")]
        Kind::Sqlite => match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(5 | 6) => "another transaction keeps the file locked",
            Ok(8) => "the file is read-only",
            Ok(10) => "reading or writing the file failed",
            Ok(11) => "the file is damaged",
            Ok(13) => "the disk is full",
            Ok(14) => "the file cannot be opened: does its folder exist, and may this user write there?",
            Ok(26) => "the file is not a SQLite database",
            _ => "a statement failed",
        },
        #[cfg(feature = "postgres")]
        Kind::Postgres => match code {
            "25P02" => "a statement of the transaction failed before, and the handler went on as if it had not",
            "25P03" => "the transaction was idle for too long",
            "28000" | "28P01" => "the user is not let in",
            "3D000" => "the database does not exist",
            "3F000" => "the schema does not exist",
            "42501" => "the user may not do that",
            "42P01" => "a table is missing; is this the store's database?",
            "53100" => "the disk is full",
            "53300" => "the server has no connection left",
            _ if code.starts_with("40") => "another transaction was in the way",
            _ if code.starts_with("57P") => "the server is going down or coming up",
            _ => "a statement failed",
        },
    }
}
