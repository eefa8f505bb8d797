//! What a failure of the conversation with the server means: certainly nothing done, perhaps done, or refused.

use async_nats::RequestErrorKind;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind};
use async_nats::jetstream::{Error as Said, ErrorCode};
use serde::Deserialize;

use crate::error::{Error, ErrorKind};

/// How a request ended that did not succeed.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It was never sent.
    Unsent(&'static str),
    /// The server refused it, in our own words for its code.
    Refused(u64, &'static str),
    /// Nothing was heard: it may have been carried out.
    Cut,
    /// It is larger than the server takes.
    TooLarge,
}

/// What the server says when it refuses.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: u64,
    #[serde(default)]
    pub(super) err_code: u64,
}

pub(super) const NO_MESSAGE: u64 = 10_037;
pub(super) const NO_CONSUMER: u64 = 10_014;
pub(super) const NO_STREAM: u64 = 10_059;
pub(super) const WRONG_LAST: u64 = 10_071;
pub(super) const STREAM_IN_USE: u64 = 10_058;
const NOBODY: u64 = 503;

impl Fault {
    pub(super) fn refused(code: u64) -> Self {
        Self::Refused(code, of_code(code))
    }

    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        Self::refused(if refusal.err_code == 0 { refusal.code } else { refusal.err_code })
    }

    pub(super) fn of_request(kind: RequestErrorKind) -> Self {
        match kind {
            RequestErrorKind::NoResponders => Self::refused(NOBODY),
            RequestErrorKind::InvalidSubject => Self::Unsent("a subject is not allowed"),
            RequestErrorKind::MaxPayloadExceeded => Self::TooLarge,
            RequestErrorKind::TimedOut | RequestErrorKind::Other => Self::Cut,
        }
    }

    pub(super) fn of_publish(error: &PublishError) -> Self {
        if let Some(said) = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Said>()) {
            return Self::refused(said.error_code().0);
        }
        match error.kind() {
            PublishErrorKind::StreamNotFound => Self::refused(NOBODY),
            PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => Self::refused(WRONG_LAST),
            PublishErrorKind::MaxPayloadExceeded => Self::TooLarge,
            PublishErrorKind::MaxAckPending => Self::Unsent("too much is being published at once"),
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe | PublishErrorKind::Other => Self::Cut,
        }
    }

    pub(super) fn of_read(error: &RawMessageError) -> Self {
        match error.kind() {
            RawMessageErrorKind::NoMessageFound => Self::refused(NO_MESSAGE),
            RawMessageErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => Self::refused(NO_STREAM),
            RawMessageErrorKind::JetStream(said) => Self::refused(said.error_code().0),
            _ => Self::Cut,
        }
    }

    /// Whether the server has refused it with this code.
    pub(super) fn is(&self, code: u64) -> bool {
        matches!(self, Self::Refused(said, _) if *said == code)
    }

    /// For what is published.
    pub(super) fn published(&self) -> Error {
        let kind = match self {
            Self::Unsent(_) | Self::Refused(..) => ErrorKind::NotStored,
            Self::Cut => ErrorKind::Unknown,
            Self::TooLarge => ErrorKind::TooLarge,
        };
        Error::new(kind, self.text())
    }

    /// For everything else.
    pub(super) fn failed(&self) -> Error {
        let kind = match self {
            Self::Unsent(_) | Self::Refused(..) => ErrorKind::Broker,
            Self::Cut => ErrorKind::Unknown,
            Self::TooLarge => ErrorKind::TooLarge,
        };
        Error::new(kind, self.text())
    }

    fn text(&self) -> String {
        match self {
            Self::Unsent(why) => format!("nats: {why}"),
            Self::Refused(code, why) => format!("nats: {why} (code {code})"),
            Self::Cut => "nats: the server did not answer in time, and nobody knows whether it carried out what it was asked".to_owned(),
            Self::TooLarge => "nats: this is larger than the server's `max_payload`".to_owned(),
        }
    }
}

/// Texts of the server's may hold names and values; only our own words are passed on.
fn of_code(code: u64) -> &'static str {
    match code {
        NOBODY => "nobody answers for it: is JetStream on, and does the stream exist?",
        NO_STREAM => "the stream is not there: open the broker again, which makes it",
        NO_CONSUMER => "the subscription's consumer is not there",
        NO_MESSAGE => "there is no such message",
        WRONG_LAST => "somebody else has just changed it",
        STREAM_IN_USE => "a stream of this name is there with another configuration",
        10_065 => "its subjects belong to another stream: choose another `stream`",
        10_047 | 10_023 => "the server is out of storage for JetStream",
        10_077 | 10_054 => "the stream refuses it: a limit of the stream, or of the server's disk, is reached",
        10_028 | 10_002 => "the account's limit of JetStream is reached",
        10_005 | 10_074 => "there are too few servers for so many `replicas`",
        10_039 | 10_076 => "JetStream is not on for this server or account",
        _ => "the server refused it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_called_certain() {
        assert_eq!(Fault::Unsent("x").published().kind(), ErrorKind::NotStored);
        assert_eq!(Fault::refused(10_077).published().kind(), ErrorKind::NotStored);
        assert_eq!(Fault::of_request(RequestErrorKind::TimedOut).published().kind(), ErrorKind::Unknown);
        assert_eq!(Fault::of_request(RequestErrorKind::Other).published().kind(), ErrorKind::Unknown);
        assert_eq!(Fault::of_publish(&PublishError::new(PublishErrorKind::Other)).published().kind(), ErrorKind::Unknown);
        assert_eq!(Fault::of_publish(&PublishError::new(PublishErrorKind::BrokenPipe)).published().kind(), ErrorKind::Unknown);
        assert_eq!(Fault::of_publish(&PublishError::new(PublishErrorKind::StreamNotFound)).published().kind(), ErrorKind::NotStored);
        assert!(Fault::refused(10_077).failed().is_retryable());
    }
}
