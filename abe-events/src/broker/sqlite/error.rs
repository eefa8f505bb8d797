//! What an error of SQLite means for a caller: certainly not stored, perhaps stored, or merely failed.

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};

/// What a statement fails with.
pub(super) type Fault = rusqlite::Error;

/// A statement or `BEGIN` failed: the transaction was rolled back, so certainly nothing is stored.
pub(super) fn not_stored(fault: &Fault) -> Error {
    Error::new(ErrorKind::NotStored, describe(fault))
}

/// `COMMIT` failed. A full disk is noticed before the frame that commits is written; whatever else went wrong may have
/// happened behind it.
pub(super) fn of_commit(fault: &Fault) -> Error {
    let certain = matches!(fault.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
    Error::new(if certain { ErrorKind::NotStored } else { ErrorKind::Unknown }, describe(fault))
}

/// The file cannot be used.
pub(super) fn unusable(fault: &Fault) -> Error {
    Error::new(ErrorKind::Broker, describe(fault))
}

/// Texts of SQLite's may hold the path, and with it what must not reach a log: only its own words are passed on.
fn describe(fault: &Fault) -> String {
    let Some(code) = fault.sqlite_error_code() else {
        return match fault {
            Fault::InvalidColumnType(..) | Fault::FromSqlConversionFailure(..) | Fault::IntegralValueOutOfRange(..) => {
                "sqlite: a row holds what this version does not write".to_owned()
            }
            _ => "sqlite: a statement failed".to_owned(),
        };
    };
    let text = match code {
        ErrorCode::DiskFull => "the disk is full",
        ErrorCode::SystemIoFailure => "reading or writing the file failed",
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "another process keeps the file locked",
        ErrorCode::CannotOpen => "the file cannot be opened: does its folder exist, and may this user write there?",
        ErrorCode::ReadOnly => "the file is read-only",
        ErrorCode::DatabaseCorrupt => "the file is damaged",
        ErrorCode::NotADatabase => "the file is not a SQLite database",
        ErrorCode::PermissionDenied => "access to the file is denied",
        ErrorCode::OutOfMemory => "out of memory",
        ErrorCode::TooBig => "a value is larger than SQLite can store",
        ErrorCode::ConstraintViolation => "a constraint of the schema refused the row",
        _ => "a statement failed",
    };
    match fault.sqlite_error() {
        Some(error) => format!("sqlite: {text} (code {})", error.extended_code),
        None => format!("sqlite: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: i32) -> Fault {
        Fault::SqliteFailure(rusqlite::ffi::Error::new(code), Some("in some secret place".to_owned()))
    }

    #[test]
    fn only_what_is_certain_is_called_certain() {
        use rusqlite::ffi::{SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE};
        for (code, kind) in [
            (SQLITE_FULL, ErrorKind::NotStored),
            (SQLITE_BUSY, ErrorKind::NotStored),
            (SQLITE_IOERR_FSYNC, ErrorKind::Unknown),
            (SQLITE_IOERR_WRITE, ErrorKind::Unknown),
        ] {
            assert_eq!(of_commit(&fault(code)).kind(), kind, "{code}");
            assert_eq!(not_stored(&fault(code)).kind(), ErrorKind::NotStored);
            assert!(!of_commit(&fault(code)).to_string().contains("secret"));
        }
    }
}
