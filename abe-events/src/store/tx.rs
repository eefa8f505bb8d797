//! The transaction a handler works in: [`Tx`].

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::outbox::{Outbox, OutboxPublish, Via};
use super::{Open, Store};
use crate::error::{Error, Result};
use crate::handler::generated::Lent;
use crate::handler::{Extractor, Meta, Resolver, TransactionSlot};
use crate::message::{Id, Lineage};
use crate::publisher::{Publishable, Publisher};

/// A database transaction for one call of a handler: what the handler writes through it, the record that its message was
/// handled, and the events it publishes commit together before the message is acked, or not at all.
///
/// At-least-once delivery; exactly one committed effect per event and handler, as far as the effect is written through it.
/// A handler that takes it needs no `idempotent`.
///
/// It stands for a [`SqliteConnection`](sqlx::SqliteConnection) or [`PgConnection`](sqlx::PgConnection) within its
/// transaction, which is begun and ended by the framework:
///
/// ```no_run
/// # #[cfg(all(feature = "sqlite", feature = "macros"))]
/// # mod example {
/// use abe_events::sqlx::{self, Sqlite};
/// use abe_events::{Result, Tx, event, subscribe};
///
/// #[event(topic = "transfer.requested", key = from)]
/// struct TransferRequested { from: i64, to: i64, cents: i64 }
///
/// #[subscribe(name = "transfer")]
/// async fn transfer(wish: &TransferRequested, mut tx: Tx<Sqlite>) -> Result<()> {
///     let move_by = "UPDATE account SET cents = cents + ? WHERE number = ?";
///     sqlx::query(move_by).bind(-wish.cents).bind(wish.from).execute(&mut *tx).await?;
///     sqlx::query(move_by).bind(wish.cents).bind(wish.to).execute(&mut *tx).await?;
///     Ok(())
/// }
/// # }
/// ```
///
/// * An error, a panic, a timeout, or a lost lease roll it back: no effect, no record, no event; then the message is retried
///   by policy.
/// * A duplicate is recognised before the handler is called, and acked. One that runs at the same moment elsewhere is waited for.
/// * `&mut Tx<Sqlite>` does as well. It cannot be committed or rolled back by the handler; savepoints are sqlx's:
///   `tx.begin()` by [`Connection`](sqlx::Connection). Kept beyond the handler's return it fails the attempt.
/// * In a batch, one transaction is for all events. When one of them fails, all is rolled back: those that failed are
///   retried by policy, the others come again without them and are charged no attempt.
/// * On SQLite an open transaction keeps every other writer of the file waiting: be brief, and call no slow service within.
///
/// Where the transaction comes from says [`RuntimeBuilder::store`](crate::RuntimeBuilder::store).
pub struct Tx<Db: TxDatabase> {
    /// Always there, until it is dropped.
    open: Option<Box<Open<Db>>>,
    number: u64,
    slot: Arc<TransactionSlot>,
    store: Arc<Store>,
    publisher: Publisher,
    lineage: Arc<Lineage>,
}

/// Where a handler's transactions come from.
#[derive(Debug)]
pub struct TxSource(Arc<Store>);

/// The databases a [`Tx`] can be of: [`Sqlite`](sqlx::Sqlite) and [`Postgres`](sqlx::Postgres).
#[diagnostic::on_unimplemented(
    message = "there is no `Tx<{Self}>`",
    label = "not a database of the store",
    note = "`Tx` is of `abe_events::sqlx::Sqlite` (feature `sqlite`) or `abe_events::sqlx::Postgres` (feature `postgres`)"
)]
pub trait TxDatabase: sqlx::Database + Sealed {}

/// Keeps the list of databases closed.
pub trait Sealed: sqlx::Database {
    #[doc(hidden)]
    fn via(connection: &mut Self::Connection) -> Via<'_>;
}

#[cfg(feature = "sqlite")]
impl TxDatabase for sqlx::Sqlite {}

#[cfg(feature = "sqlite")]
impl Sealed for sqlx::Sqlite {
    fn via(connection: &mut sqlx::SqliteConnection) -> Via<'_> {
        Via::Sqlite(connection)
    }
}

#[cfg(feature = "postgres")]
impl TxDatabase for sqlx::Postgres {}

#[cfg(feature = "postgres")]
impl Sealed for sqlx::Postgres {
    fn via(connection: &mut sqlx::PgConnection) -> Via<'_> {
        Via::Postgres(connection)
    }
}

impl<Db: TxDatabase> Tx<Db> {
    /// Publishes an event that this message caused, if and when the transaction commits. It has its id at once.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge), [`Encode`](crate::ErrorKind::Encode), or
    /// [`NotStored`](crate::ErrorKind::NotStored) when the statement failed: let the handler fail with it.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting, the event may or may not be part of the transaction.
    pub async fn publish<P: Publishable>(&mut self, event: P) -> Result<Id> {
        self.publishing(event).send().await
    }

    /// Publishes events in order, with one statement.
    ///
    /// # Errors
    ///
    /// As [`publish`](Tx::publish).
    pub async fn publish_all<P: Publishable>(&mut self, events: impl IntoIterator<Item = P>) -> Result<()> {
        self.outbox().publish_all(events).await
    }

    /// Publishes with a delay, headers, a key, an id, a time or a correlation id.
    pub fn publishing<P: Publishable>(&mut self, event: P) -> OutboxPublish<'_> {
        self.outbox().into_publishing(event)
    }

    fn outbox(&mut self) -> Outbox<'_> {
        let open = opened(&mut self.open);
        open.published = true;
        let via = Db::via(&mut open.tx);
        Outbox::new(Some(&*self.store), &self.publisher, via).caused_by(self.lineage.clone(), Some((&*self.slot, self.number)))
    }
}

/// It is taken out by `drop` only.
fn opened<Db: TxDatabase>(open: &mut Option<Box<Open<Db>>>) -> &mut Open<Db> {
    match open {
        Some(open) => open,
        None => unreachable!("a transaction that was dropped is used"),
    }
}

impl<Db: TxDatabase> Deref for Tx<Db> {
    type Target = Db::Connection;

    fn deref(&self) -> &Db::Connection {
        match &self.open {
            Some(open) => &open.tx,
            None => unreachable!("a transaction that was dropped is used"),
        }
    }
}

impl<Db: TxDatabase> DerefMut for Tx<Db> {
    fn deref_mut(&mut self) -> &mut Db::Connection {
        &mut opened(&mut self.open).tx
    }
}

impl<Db: TxDatabase> Drop for Tx<Db> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.slot.give_back(open, self.number);
        }
    }
}

impl<Db: TxDatabase> Extractor for Tx<Db> {
    type Prepared = TxSource;

    fn prepare(resolver: &mut Resolver<'_>) -> Option<TxSource> {
        let (name, wanted, scheme) =
            if Db::NAME == "SQLite" { ("SQLite", "Sqlite", "sqlite") } else { ("PostgreSQL", "Postgres", "postgres") };
        match resolver.optional_state::<Store>() {
            Some(store) if store.kind().name() == name => {
                resolver.need_transaction();
                return Some(TxSource(store));
            }
            Some(store) => {
                let (is, parameter) = (store.kind().name(), store.kind().parameter());
                let text = format!("it takes `Tx<{wanted}>`, but the store is {is}; take `Tx<{parameter}>`, or name a {name} store");
                resolver.note_missing(text);
            }
            None => resolver.note_missing(format!(
                "it takes `Tx<{wanted}>`, but there is no SQL store; say `.store(\"{scheme}://…\")` on `Runtime::builder()`, or `store:` in the configuration"
            )),
        }
        None
    }

    fn extract(source: &TxSource, meta: Meta<'_>) -> Result<Self> {
        let slot = meta.lane.transaction.clone().ok_or_else(|| Error::msg("the lane has no transaction"))?;
        let (open, number) = slot.lend().ok_or_else(|| Error::permanent("a handler takes one `Tx`, and no more"))?;
        let open = open.downcast().map_err(|_| Error::msg("the lane's transaction is of another database"))?;
        let (publisher, lineage) = (meta.lane.publisher.clone(), Lineage::of_effect(meta.message()));
        Ok(Self { open: Some(open), number, slot, store: source.0.clone(), publisher, lineage })
    }
}

impl<Db: TxDatabase> Lent<Tx<Db>> {
    /// For the macro: goes before that of `NoTransaction`.
    pub const TRANSACTION: bool = true;
}

impl<Db: TxDatabase> Lent<Option<Tx<Db>>> {
    /// For the macro: goes before that of `NoTransaction`.
    pub const TRANSACTION: bool = true;
}

impl<Db: TxDatabase> fmt::Debug for Tx<Db> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("database", &Db::NAME).finish_non_exhaustive()
    }
}
