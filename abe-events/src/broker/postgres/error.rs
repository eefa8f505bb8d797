//! What an error of PostgreSQL means for a caller: certainly not stored, perhaps stored, or merely failed.

use crate::error::{Error, ErrorKind};

/// How a statement ended that did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was never sent.
    Unsent(sqlx::Error),
    /// The server refused it, and has undone it.
    Refused(sqlx::Error),
    /// The connection broke, or nothing was heard for too long: it may have been carried out.
    Cut(Option<sqlx::Error>),
}

impl Fault {
    /// What an error of a statement that was sent means.
    pub(super) fn of(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(said) if !ends_session(said.code().as_deref()) => Self::Refused(error),
            // Found by us, before anything was sent or after all had come.
            sqlx::Error::Encode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnIndexOutOfBounds { .. } => Self::Refused(error),
            _ => Self::Cut(Some(error)),
        }
    }

    /// For what is published.
    pub(super) fn published(&self) -> Error {
        match self {
            Self::Unsent(error) | Self::Refused(error) => Error::new(ErrorKind::NotStored, describe(error)),
            Self::Cut(error) => Error::new(ErrorKind::Unknown, self.cut(error.as_ref())),
        }
    }

    /// For everything else.
    pub(super) fn failed(&self) -> Error {
        match self {
            Self::Unsent(error) | Self::Refused(error) => Error::new(ErrorKind::Broker, describe(error)),
            Self::Cut(error) => Error::new(ErrorKind::Unknown, self.cut(error.as_ref())),
        }
    }

    /// Whether the server has refused it, so that the same without the culprit may succeed.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    fn cut(&self, error: Option<&sqlx::Error>) -> String {
        match error {
            Some(error) => format!("{}, and nobody knows whether it carried out what it was asked", describe(error)),
            None => "postgres: the server does not answer, and nobody knows whether it carried out what it was asked".to_owned(),
        }
    }
}

/// Whether the server says this as its last word in a session: a crash or shutdown, in which the commit may be over.
fn ends_session(code: Option<&str>) -> bool {
    code.is_none_or(|code| code.starts_with("57P") || code.starts_with("08") || code.starts_with("XX"))
}

/// Texts of the server's may hold values, and those of the driver what must not reach a log: only our own words are passed on.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(said) => {
            let code = said.code().unwrap_or_default();
            format!("postgres: {} (code {code})", of_code(&code))
        }
        sqlx::Error::Io(error) => format!("postgres: the connection failed: {}", error.kind()),
        sqlx::Error::Tls(_) => "postgres: no encrypted connection can be made; see `sslmode` and `sslrootcert`".to_owned(),
        sqlx::Error::PoolTimedOut => "postgres: no connection could be had in time: is the server there, and are there enough `connections`?".to_owned(),
        sqlx::Error::PoolClosed => "postgres: the broker is closed".to_owned(),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "postgres: a row holds what this version does not write".to_owned(),
        _ => "postgres: the conversation with the server failed".to_owned(),
    }
}

fn of_code(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => "the server refuses the user or the password",
        "3D000" => "there is no such database",
        "3F000" | "42P01" => "the tables are missing: open it once with a role that may create them",
        "42501" => "this role may not do that: see the grants in the guide",
        "53100" => "the server's disk is full",
        "53300" => "the server has no connection left",
        "57014" => "the statement took too long",
        "22P05" | "22021" => "the database cannot keep this text in its encoding",
        "25006" => "the server is read-only",
        "40P01" | "40001" => "the statement collided with another",
        code if code.starts_with("57P") => "the server is starting or shutting down",
        code if code.starts_with("53") => "the server is out of a resource",
        code if code.starts_with("23") => "a constraint of the schema refused the row",
        _ => "the server refused the statement",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_called_certain() {
        let io = || sqlx::Error::Io(std::io::Error::other("in some secret place"));
        assert_eq!(Fault::Unsent(io()).published().kind(), ErrorKind::NotStored);
        assert_eq!(Fault::of(io()).published().kind(), ErrorKind::Unknown);
        assert_eq!(Fault::of(sqlx::Error::PoolTimedOut).published().kind(), ErrorKind::Unknown);
        assert_eq!(Fault::Cut(None).failed().kind(), ErrorKind::Unknown);
        assert!(!Fault::of(io()).published().to_string().contains("secret"));
        for (code, last) in [("57P01", true), ("57014", false), ("08006", true), ("23505", false), ("53100", false), ("XX000", true)] {
            assert_eq!(ends_session(Some(code)), last, "{code}");
        }
    }
}
