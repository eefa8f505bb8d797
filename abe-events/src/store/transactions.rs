//! The transactions of a subscription, for the lane that runs its handler.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::stored::Row;
use super::{Store, key_bytes};
use crate::broker::Answer;
use crate::error::Result;
use crate::handler::{InboxKey, OpenTransaction};
use crate::inbox::{Begun, Transactions};
use crate::message::Message;
use crate::mutant;
use crate::publisher::Publisher;

/// How much longer than its handler may run a transaction may be idle before the database ends it.
const IDLE_MARGIN: Duration = Duration::from_secs(10);

/// The transactions of one subscription.
pub(crate) struct StoreTransactions {
    store: Arc<Store>,
    subscriber: i64,
    window: Duration,
    idle: Option<Duration>,
    publisher: Publisher,
}

impl StoreTransactions {
    /// For a handler whose attempts end within `timeout`, and are remembered for `window`.
    pub(crate) async fn open(
        store: &Arc<Store>,
        (group, name): (&str, &str),
        window: Duration,
        timeout: Option<Duration>,
        publisher: &Publisher,
    ) -> Result<Self> {
        let subscriber = store.database.subscriber(group.to_owned(), name.to_owned()).await?;
        let idle = timeout.map(|timeout| timeout + IDLE_MARGIN);
        Ok(Self { store: store.clone(), subscriber, window, idle, publisher: publisher.clone() })
    }

    fn rows(&self, messages: &[(Message, Duration)]) -> Result<Vec<Row>> {
        let row = |(message, delay): &(Message, Duration)| {
            let row = Row::of(message, *delay)?;
            self.publisher.check_bytes(message, row.payload.len())?;
            Ok(row)
        };
        messages.iter().map(row).collect()
    }
}

impl Transactions for StoreTransactions {
    fn begin(&self, keys: Vec<InboxKey>) -> Answer<'_, Result<Begun>> {
        let keys = keys.iter().map(key_bytes).collect();
        Answer::Later(self.store.database.begin(self.subscriber, keys, self.window, self.idle))
    }

    fn commit(&self, open: OpenTransaction, messages: Vec<(Message, Duration)>) -> Answer<'_, Result<()>> {
        if mutant::is("ack-before-commit") {
            let (store, rows) = (self.store.clone(), self.rows(&messages));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                store.database.commit(open, rows?).await
            });
            return Answer::ready(Ok(()));
        }
        Answer::later(async move {
            let rows = match self.rows(&messages) {
                Ok(rows) => rows,
                Err(error) => {
                    self.store.database.roll_back(open).await;
                    return Err(error);
                }
            };
            if self.store.database.commit(open, rows).await? {
                self.store.relay.wake();
            }
            Ok(())
        })
    }

    fn roll_back(&self, open: OpenTransaction) -> Answer<'_, ()> {
        Answer::Later(self.store.database.roll_back(open))
    }

    fn excludes_broker(&self) -> bool {
        self.store.excludes_broker
    }
}

impl fmt::Debug for StoreTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreTransactions").field("store", &self.store).field("window", &self.window).finish_non_exhaustive()
    }
}
