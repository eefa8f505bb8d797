//! What a failure of the conversation with the server means: certainly nothing done, perhaps done, or refused.

use ::redis::RedisError;

use crate::error::{Error, ErrorKind};

/// How a call ended that did not succeed.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It was never sent.
    Unsent(&'static str),
    /// The server refused it, in our own words, before anything was done.
    Refused(&'static str),
    /// The server stopped in the middle of it.
    Broken(&'static str),
    /// What it is about is not there.
    Gone,
    /// Nothing was heard: it may have been carried out.
    Cut,
}

impl Fault {
    /// Of an answer. Texts of the server's may hold names and values; only our own words are passed on.
    pub(super) fn of(error: &RedisError) -> Self {
        // What has no code is not the server's word.
        error.code().map_or(Self::Cut, Self::of_code)
    }

    pub(super) fn of_code(code: &str) -> Self {
        match code {
            "OOM" => Self::Refused("the server is at its `maxmemory`, and evicts nothing"),
            "READONLY" => Self::Refused("the server is a replica, which stores nothing"),
            "MISCONF" => Self::Refused("the server cannot write to its disk"),
            "LOADING" => Self::Refused("the server still reads what it had stored"),
            "BUSY" => Self::Refused("the server is busy with somebody's script"),
            "NOREPLICAS" => Self::Refused("too few replicas are there for `min-replicas-to-write`"),
            "NOAUTH" | "WRONGPASS" => Self::Refused("the server refuses the user or password"),
            "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "CROSSSLOT" | "TRYAGAIN" => {
                Self::Refused("the keys are on another server: a cluster is not supported, name one primary")
            }
            "NOSCRIPT" => Self::Refused("a script is not there"),
            "NOPERM" => Self::Broken("the user may not do it; see the guide for what it must be allowed"),
            "WRONGTYPE" => Self::Broken("a key holds something that is none of ours; choose another `prefix`"),
            "NOGROUP" => Self::Gone,
            _ => Self::Broken("the server refused it"),
        }
    }

    /// For what is published.
    pub(super) fn published(&self) -> Error {
        let kind = match self {
            Self::Unsent(_) | Self::Refused(_) => ErrorKind::NotStored,
            Self::Broken(_) | Self::Gone | Self::Cut => ErrorKind::Unknown,
        };
        Error::new(kind, self.text())
    }

    /// For everything else.
    pub(super) fn failed(&self) -> Error {
        let kind = match self {
            Self::Unsent(_) | Self::Refused(_) | Self::Broken(_) | Self::Gone => ErrorKind::Broker,
            Self::Cut => ErrorKind::Unknown,
        };
        Error::new(kind, self.text())
    }

    fn text(&self) -> String {
        match self {
            Self::Unsent(why) | Self::Refused(why) | Self::Broken(why) => format!("redis: {why}"),
            Self::Gone => "redis: the subscription was removed from the server, and is made again".to_owned(),
            Self::Cut => "redis: the server did not answer in time, and nobody knows whether it carried out what it was asked".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_called_certain() {
        assert_eq!(Fault::Unsent("x").published().kind(), ErrorKind::NotStored);
        assert_eq!(Fault::of_code("OOM").published().kind(), ErrorKind::NotStored);
        for code in ["WRONGTYPE", "NOPERM", "ERR", ""] {
            assert_eq!(Fault::of_code(code).published().kind(), ErrorKind::Unknown, "{code}: half of it may be done");
        }
        assert_eq!(Fault::Cut.published().kind(), ErrorKind::Unknown);
    }
}
