//! Transactions of a subscription: its records, its handler's writes and its events commit together, or not at all.

use std::fmt;
use std::time::Duration;

use crate::broker::Answer;
use crate::error::Result;
use crate::handler::{InboxKey, OpenTransaction, Reservation};
use crate::message::Message;

/// A transaction that has begun, if anything is to be done in it, and what came of each key.
#[derive(Default)]
pub(crate) struct Begun {
    pub(crate) open: Option<OpenTransaction>,
    pub(crate) each: Vec<Reservation>,
}

/// The transactions of one subscription.
pub(crate) trait Transactions: fmt::Debug + Send + Sync {
    /// Begins a transaction whose first statement records the keys. A key that another transaction is recording is waited
    /// for. When none of them is reserved, the transaction is rolled back already.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is begun.
    fn begin(&self, keys: Vec<InboxKey>) -> Answer<'_, Result<Begun>>;

    /// Writes messages into the outbox, each with its delay, and commits.
    ///
    /// # Errors
    ///
    /// [`Unknown`](crate::ErrorKind::Unknown) when it may be committed; with any other kind it certainly is not.
    fn commit(&self, open: OpenTransaction, messages: Vec<(Message, Duration)>) -> Answer<'_, Result<()>>;

    /// Rolls back.
    fn roll_back(&self, open: OpenTransaction) -> Answer<'_, ()>;

    /// Whether an open transaction keeps the broker from writing: both are one SQLite file.
    fn excludes_broker(&self) -> bool;
}
