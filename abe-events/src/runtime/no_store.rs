//! A runtime without a SQL store, in a build that has none.

use std::sync::Arc;
use std::time::Duration;

use super::monitor::OutboxMonitor;
use crate::broker::Broker;
use crate::error::{Error, ErrorKind, Result};
use crate::handler::States;
use crate::inbox::{Inbox, MemoryInbox, Transactions};
use crate::publisher::{Limits, Publisher};
use crate::registry::Planned;

/// No pool can be given.
#[derive(Debug, Default)]
pub(super) struct Pool;

/// No store.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored;

#[expect(clippy::unused_async, clippy::unused_self, reason = "as with a store")]
impl Stored {
    pub(super) async fn open(_: Pool, _: Option<&str>, _: Option<&str>) -> Result<Self> {
        // A store that is named was refused before.
        Ok(Self)
    }

    pub(super) fn announce(&self, _: &mut States) {}

    pub(super) async fn is_relayed(&self) -> bool {
        true
    }

    pub(super) fn monitor(&self) -> Option<OutboxMonitor> {
        None
    }

    pub(super) fn logged(&self, broker: Arc<dyn Broker>, keep: Option<Duration>) -> Result<Arc<dyn Broker>> {
        if keep.is_none() { Ok(broker) } else { Err(without("an event log")) }
    }

    pub(super) fn publisher(&self, broker: &Arc<dyn Broker>, limits: &Arc<Limits>, store_first: bool) -> Result<Publisher> {
        if store_first { Err(without("publishing into the store first")) } else { Ok(Publisher::new(broker.clone(), limits.clone())) }
    }

    pub(super) async fn inbox(&self, plan: &Planned, _: Duration) -> Result<Option<Box<dyn Inbox>>> {
        Ok(plan.policy.idempotent.map(|window| Box::new(MemoryInbox::new(window)) as Box<dyn Inbox>))
    }

    pub(super) async fn transactions(&self, _: &Planned, _: &Publisher) -> Result<Box<dyn Transactions>> {
        Err(Error::new(ErrorKind::Start, "a handler works in transactions, and this build has no store"))
    }

    pub(super) fn start(&self, _: &Publisher, _: Duration, _: bool) -> Relaying {
        Relaying
    }

    pub(super) async fn close(&self) {}
}

fn without(what: &str) -> Error {
    let text = format!("{what} needs a store, and this build has none; add the feature `sqlite` or `postgres` to abe-events in Cargo.toml");
    Error::new(ErrorKind::Start, text)
}

/// No relay.
#[derive(Debug)]
pub(super) struct Relaying;

impl Relaying {
    #[expect(clippy::unused_async, reason = "as with a store")]
    pub(super) async fn stop(self, _: impl Future<Output = ()>) {}
}
