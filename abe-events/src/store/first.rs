//! Store first: whatever is published is in the outbox before anybody is told that it is published, and the relay brings it
//! to the broker, now or after the next start.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Store;
use super::group::Group;
use super::stored::Row;
use crate::broker::{Answer, Broker, Capabilities, Consumer, DeadLetters, Outgoing, PublishFailure, Published, SubscriptionSpec};
use crate::error::Result;

/// What a database does for it. Part of [`Database`](super::Database).
pub(crate) trait Puts {
    /// Writes into the outbox, in a transaction of its own.
    fn put(&self, rows: Vec<Row>) -> BoxFuture<'_, Result<()>>;
}

/// A broker whose publishes go through the outbox. Everything else is the broker's own.
pub(crate) struct StoreFirst {
    inner: Arc<dyn Broker>,
    store: Arc<Store>,
    rows: Group<Row>,
}

impl StoreFirst {
    pub(crate) fn new(inner: Arc<dyn Broker>, store: Arc<Store>) -> Self {
        Self { inner, store, rows: Group::new() }
    }

    async fn store(&self, outgoing: Outgoing) -> Result<Published, PublishFailure> {
        let none = |error| PublishFailure { stored: 0, error };
        let messages = outgoing.messages.as_slice();
        let rows = messages.iter().map(|message| Row::of(message, outgoing.delay)).collect::<Result<Vec<Row>>>().map_err(none)?;
        let deliveries = rows.len() as u64;
        self.rows.add(rows, |rows| self.store.database.put(rows)).await.map_err(none)?;
        self.store.relay.wake();
        // Who takes them is known when the relay has published them, and counted there.
        Ok(Published { deliveries })
    }
}

impl Broker for StoreFirst {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        self.inner.subscribe(spec)
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        Answer::later(self.store(outgoing))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

impl fmt::Debug for StoreFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreFirst").field(&self.inner).finish()
    }
}
