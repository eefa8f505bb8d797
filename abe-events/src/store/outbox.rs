//! Publishing in a user's own transaction: rows of the outbox, which the relay publishes once they are committed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use compact_str::CompactString;

use super::Store;
use super::stored::Row;
use crate::error::{Error, ErrorKind, Result};
use crate::handler::TransactionSlot;
use crate::lane_scope;
use crate::message::{Id, Lineage, Message};
use crate::publisher::{Publish, Publishable, Publisher};

/// A connection within somebody's transaction.
pub enum Via<'c> {
    /// To SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut sqlx::SqliteConnection),
    /// To PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
}

impl Via<'_> {
    fn again(&mut self) -> Via<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => Via::Sqlite(connection),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => Via::Postgres(connection),
        }
    }
}

impl fmt::Debug for Via<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Via")
    }
}

/// What [`Runtime::outbox`](crate::Runtime::outbox) takes: `&mut` of a sqlx transaction, or of its connection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no transaction that an outbox can be in",
    note = "give `&mut tx` of a `sqlx::Transaction<'_, Sqlite>` or `<'_, Postgres>`, or `&mut` of its connection"
)]
pub trait IntoOutbox<'c> {
    /// The connection.
    fn into_via(self) -> Via<'c>;
}

macro_rules! connections {
    ($feature:literal, $variant:ident, $connection:ty, $database:ty) => {
        #[cfg(feature = $feature)]
        impl<'c> IntoOutbox<'c> for &'c mut $connection {
            fn into_via(self) -> Via<'c> {
                Via::$variant(self)
            }
        }

        #[cfg(feature = $feature)]
        impl<'c> IntoOutbox<'c> for &'c mut sqlx::Transaction<'_, $database> {
            fn into_via(self) -> Via<'c> {
                Via::$variant(self)
            }
        }
    };
}

connections!("sqlite", Sqlite, sqlx::SqliteConnection, sqlx::Sqlite);
connections!("postgres", Postgres, sqlx::PgConnection, sqlx::Postgres);

/// The outbox of a runtime within one transaction: what is published here exists if and when that commits.
#[derive(Debug)]
pub struct Outbox<'c> {
    store: Option<&'c Store>,
    publisher: &'c Publisher,
    via: Via<'c>,
    cause: Option<Arc<Lineage>>,
    /// What was published in the same transaction by other means, and comes before.
    slot: Option<(&'c TransactionSlot, u64)>,
}

impl<'c> Outbox<'c> {
    pub(crate) fn new(store: Option<&'c Store>, publisher: &'c Publisher, via: Via<'c>) -> Self {
        Self { store, publisher, via, cause: None, slot: None }
    }

    pub(super) fn caused_by(mut self, cause: Arc<Lineage>, slot: Option<(&'c TransactionSlot, u64)>) -> Self {
        (self.cause, self.slot) = (Some(cause), slot);
        self
    }

    /// Publishes an event with the transaction, and answers its id.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when the runtime has no store, or one of another kind than the
    /// connection; [`TooLarge`](crate::ErrorKind::TooLarge), [`Encode`](crate::ErrorKind::Encode);
    /// [`NotStored`](crate::ErrorKind::NotStored) when the statement failed, as on a database that is not the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting, the event may or may not be part of the transaction: roll it back.
    pub async fn publish<P: Publishable>(&mut self, event: P) -> Result<Id> {
        self.publishing(event).send().await
    }

    /// Publishes events in order, with one statement.
    ///
    /// # Errors
    ///
    /// As [`publish`](Outbox::publish).
    pub async fn publish_all<P: Publishable>(&mut self, events: impl IntoIterator<Item = P>) -> Result<()> {
        let messages = self.publisher.messages(events, self.cause())?;
        write(self.store, self.publisher, self.via.again(), self.slot, messages, Duration::ZERO).await
    }

    /// Publishes with a delay, headers, a key, an id, a time or a correlation id.
    pub fn publishing<P: Publishable>(&mut self, event: P) -> OutboxPublish<'_> {
        let (publish, via) = (self.begin(event), self.via.again());
        OutboxPublish { store: self.store, publisher: self.publisher, via, slot: self.slot, publish }
    }

    pub(super) fn into_publishing<P: Publishable>(self, event: P) -> OutboxPublish<'c> {
        let publish = self.begin(event);
        OutboxPublish { store: self.store, publisher: self.publisher, via: self.via, slot: self.slot, publish }
    }

    fn begin<P: Publishable>(&self, event: P) -> Publish<'c> {
        let publish = self.publisher.publishing(event);
        match self.cause() {
            Some(cause) => publish.caused_by(cause),
            None => publish,
        }
    }

    /// The handler's message: of the `Tx` this belongs to, or of the handler that calls.
    fn cause(&self) -> Option<Arc<Lineage>> {
        self.cause.clone().or_else(lane_scope::lineage)
    }
}

/// Publishing into an outbox with options; nothing happens before [`send`](OutboxPublish::send).
#[must_use = "nothing is published before `.send().await`"]
#[derive(Debug)]
pub struct OutboxPublish<'c> {
    store: Option<&'c Store>,
    publisher: &'c Publisher,
    via: Via<'c>,
    slot: Option<(&'c TransactionSlot, u64)>,
    publish: Publish<'c>,
}

impl OutboxPublish<'_> {
    /// Not to be handled before so much time has passed since the relay published it.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.publish = self.publish.delay(delay);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.publish = self.publish.header(name, value);
        self
    }

    /// Another key than the event's own.
    pub fn key(mut self, key: impl Into<CompactString>) -> Self {
        self.publish = self.publish.key(key);
        self
    }

    /// An id of the user's: what duplicates are recognised by.
    pub fn id(mut self, id: Id) -> Self {
        self.publish = self.publish.id(id);
        self
    }

    /// When the event happened, if not now.
    pub fn time(mut self, time: SystemTime) -> Self {
        self.publish = self.publish.time(time);
        self
    }

    /// The id of a chain that began elsewhere, such as a request's.
    pub fn correlation(mut self, id: Id) -> Self {
        self.publish = self.publish.correlation(id);
        self
    }

    /// Begins a chain, as [`Publish::new_chain`].
    pub fn new_chain(mut self) -> Self {
        self.publish = self.publish.new_chain();
        self
    }

    /// Publishes with the transaction, and answers the message's id.
    ///
    /// # Errors
    ///
    /// What an option got that is not allowed; else as [`Outbox::publish`].
    ///
    /// # Cancel safety
    ///
    /// As [`Outbox::publish`].
    pub async fn send(self) -> Result<Id> {
        let (message, delay) = self.publish.into_parts()?;
        let id = message.id().clone();
        write(self.store, self.publisher, self.via, self.slot, vec![message], delay).await?;
        Ok(id)
    }
}

async fn write(
    store: Option<&Store>,
    publisher: &Publisher,
    via: Via<'_>,
    slot: Option<(&TransactionSlot, u64)>,
    messages: Vec<Message>,
    delay: Duration,
) -> Result<()> {
    let Some(store) = store else {
        let text = "this runtime has no SQL store, so it has no outbox; say `.store(..)` on `Runtime::builder()`, or `store:` in the configuration";
        return Err(Error::new(ErrorKind::Unsupported, text));
    };
    let earlier = slot.map(|(slot, number)| slot.published(number)).unwrap_or_default();
    let mut rows = Vec::with_capacity(earlier.len() + messages.len());
    for (message, delay) in earlier.iter().map(|(message, delay)| (message, *delay)).chain(messages.iter().map(|message| (message, delay)))
    {
        publisher.check_size(message)?;
        let row = Row::of(message, delay)?;
        publisher.check_bytes(message, row.payload.len())?;
        rows.push(row);
    }
    if rows.is_empty() {
        return Ok(());
    }
    store.database.publish(via, rows).await?;
    // When the transaction commits is not told: the relay looks more often for a while.
    store.relay.expect();
    Ok(())
}
