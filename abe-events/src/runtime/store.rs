//! The SQL store of a runtime, if it has one: opened at start, its relay run beside the lanes, closed at the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::monitor::OutboxMonitor;
use crate::broker::Broker;
use crate::connect::store::{is_one_file, is_store, open_store, open_store_beside};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::States;
use crate::inbox::{Inbox, MemoryInbox, Transactions};
use crate::policy::IDEMPOTENT_WINDOW;
use crate::publisher::{Limits, Publisher};
use crate::registry::Planned;
#[cfg(feature = "postgres")]
use crate::store::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
use crate::store::sqlite::SqliteStore;
use crate::store::{Database, LoggedBroker, RelaySettings, Store, StoreFirst, StoreInbox, StoreTransactions, keep_short};

/// Where a builder's store comes from, beside the configuration.
#[derive(Default)]
pub(super) enum Pool {
    #[default]
    None,
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

/// The store of a runtime.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored(Option<Arc<Store>>);

impl Stored {
    /// Opens the store that was named; else that of the broker's own database.
    ///
    /// `url` is the broker's, where the broker was opened by one.
    pub(super) async fn open(pool: Pool, named: Option<&str>, url: Option<&str>) -> Result<Self> {
        let (database, one_file): (Arc<dyn Database>, bool) = match (pool, named, url) {
            (Pool::None, Some(store), url) => {
                let database = open_store(store).await.map_err(|error| error.context("opening the store"))?;
                (database, url.is_some_and(|url| is_one_file(url, store)))
            }
            (Pool::None, None, Some(url)) if is_store(url) => {
                let database = open_store_beside(url).await.map_err(|error| error.context("opening the store in the broker's database"))?;
                (database, is_one_file(url, url))
            }
            (Pool::None, None, _) => return Ok(Self::default()),
            (_, Some(_), _) => {
                return Err(Error::new(ErrorKind::Start, "a store is named and a pool is given; a runtime has one store, so remove one"));
            }
            #[cfg(feature = "sqlite")]
            (Pool::Sqlite(pool), None, url) => {
                let store = SqliteStore::through(pool).await.map_err(|error| error.context("opening the store in the given pool"))?;
                // Whether the pool's file is the broker's is not told; that it may be costs little.
                (Arc::new(store), url.is_some_and(|url| url.starts_with("sqlite:")))
            }
            #[cfg(feature = "postgres")]
            (Pool::Postgres(pool), None, _) => {
                let store = PostgresStore::through(pool).await.map_err(|error| error.context("opening the store in the given pool"))?;
                (Arc::new(store), false)
            }
        };
        Ok(Self(Some(Arc::new(Store::new(database, one_file)))))
    }

    /// Lets extractors find it.
    pub(super) fn announce(&self, states: &mut States) {
        if let Some(store) = &self.0 {
            states.insert(store.clone());
        }
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.0.as_deref()
    }

    /// Whether nothing is in the outbox; one that cannot be looked into counts as not.
    pub(super) async fn is_relayed(&self) -> bool {
        let Some(store) = &self.0 else { return true };
        store.database.backlog().await.is_ok_and(|backlog| backlog.pending == 0)
    }

    pub(super) fn monitor(&self) -> Option<OutboxMonitor> {
        let (relayed, backlog) = self.0.as_ref()?.relay.numbers();
        Some(OutboxMonitor { relayed, pending: backlog.pending, refused: backlog.refused, oldest: backlog.oldest })
    }

    /// The broker with the event log beside it, if one is kept.
    pub(super) fn logged(&self, broker: Arc<dyn Broker>, keep: Option<Duration>) -> Result<Arc<dyn Broker>> {
        let Some(keep) = keep else { return Ok(broker) };
        let Some(store) = &self.0 else { return Err(without("an event log")) };
        tokio::spawn(keep_short(Arc::downgrade(&store.database), keep));
        Ok(Arc::new(LoggedBroker::new(broker, store)))
    }

    /// What the program and its handlers publish with.
    pub(super) fn publisher(&self, broker: &Arc<dyn Broker>, limits: &Arc<Limits>, store_first: bool) -> Result<Publisher> {
        if !store_first {
            return Ok(Publisher::new(broker.clone(), limits.clone()));
        }
        let Some(store) = &self.0 else { return Err(without("publishing into the store first")) };
        // Counted when the relay has published it.
        let uncounted = Arc::new(Limits::new(limits.payload_bytes_max));
        Ok(Publisher::new(Arc::new(StoreFirst::new(broker.clone(), store.clone())), uncounted))
    }

    /// The record of an idempotent subscription.
    pub(super) async fn inbox(&self, plan: &Planned, lease: Duration) -> Result<Option<Box<dyn Inbox>>> {
        let Some(window) = plan.policy.idempotent else { return Ok(None) };
        let Some(store) = &self.0 else { return Ok(Some(Box::new(MemoryInbox::new(window)))) };
        let inbox = StoreInbox::open(store, plan.group.as_str(), plan.name.as_str(), window, lease).await?;
        Ok(Some(Box::new(inbox)))
    }

    /// The transactions of a subscription whose handler works in them.
    pub(super) async fn transactions(&self, plan: &Planned, publisher: &Publisher) -> Result<Box<dyn Transactions>> {
        let Some(store) = &self.0 else {
            // Its extractor was prepared, so there is one.
            return Err(Error::new(ErrorKind::Start, "a handler works in transactions, and there is no store"));
        };
        let window = plan.policy.idempotent.unwrap_or(IDEMPOTENT_WINDOW.max(plan.policy.horizon().saturating_mul(2)));
        let name = (plan.group.as_str(), plan.name.as_str());
        Ok(Box::new(StoreTransactions::open(store, name, window, plan.policy.timeout, publisher).await?))
    }

    /// Starts the relay.
    pub(super) fn start(&self, publisher: &Publisher, lease: Duration, durable: bool) -> Relaying {
        let Some(store) = self.0.clone() else { return Relaying(None) };
        let publisher = publisher.clone();
        // What a broker in memory were given at the end, it would lose; the outbox keeps it for the next start.
        let settings = RelaySettings { lease, empties: durable };
        let running = store.clone();
        Relaying(Some((store, tokio::spawn(async move { running.relay.run(publisher, settings).await }))))
    }

    pub(super) async fn close(&self) {
        if let Some(store) = &self.0 {
            store.database.close().await;
        }
    }
}

fn without(what: &str) -> Error {
    let text = format!("{what} needs a store, and there is none; say `.store(..)` on the builder, or `store:` in the configuration");
    Error::new(ErrorKind::Start, text)
}

/// The relay of a running runtime.
#[derive(Debug)]
pub(super) struct Relaying(Option<(Arc<Store>, JoinHandle<()>)>);

impl Relaying {
    /// Lets the relay end what it has begun, and waits for it as long as `enough` does.
    pub(super) async fn stop(self, enough: impl Future<Output = ()>) {
        let Some((store, mut running)) = self.0 else { return };
        store.relay.stop();
        tokio::select! {
            ended = &mut running => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the relay failed; what is in the outbox is published by the next start");
                }
            }
            () = enough => {
                running.abort();
                tracing::warn!("the relay was cut off; what is in the outbox is published by the next start");
            }
        }
    }
}
