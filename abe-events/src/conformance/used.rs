//! What a case leaves to tidy up: brokers to close, storages to remove.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::tools::{Check, within};
use crate::broker::Broker;

/// What a case has opened, to be closed and removed when it has ended, however it ends.
#[derive(Debug, Default)]
pub(crate) struct Used {
    brokers: Mutex<Vec<Arc<dyn Broker>>>,
    storages: Mutex<Vec<String>>,
}

impl Used {
    /// A name for a storage that nobody else uses, in this run or in any other.
    pub(crate) fn name_storage(&self) -> String {
        let name = format!("abe_{}", uuid::Uuid::now_v7().simple());
        self.storages.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        name
    }

    /// Notes a broker that is open.
    pub(crate) fn note(&self, broker: Arc<dyn Broker>) {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner).push(broker);
    }

    /// The storages that were named, once.
    pub(crate) fn take_storages(&self) -> Vec<String> {
        std::mem::take(&mut *self.storages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes all brokers, which must succeed: many a case has closed its own already.
    pub(crate) async fn close(&self, patience: Duration) -> Check {
        let brokers = std::mem::take(&mut *self.brokers.lock().unwrap_or_else(PoisonError::into_inner));
        for broker in brokers {
            within("close of the broker", patience, broker.close()).await??;
        }
        Ok(())
    }
}
