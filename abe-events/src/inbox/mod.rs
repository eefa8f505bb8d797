//! What an idempotent subscription has already applied, so that a duplicate has no second effect.
//!
//! Reserve → run → apply on success, release on failure. A mark made before the handler has succeeded would lose the
//! message whose first attempt fails; a mark made without a reservation would run two concurrent duplicates at once.

mod memory;
mod transactions;

use std::fmt;

pub(crate) use self::memory::MemoryInbox;
pub(crate) use self::transactions::{Begun, Transactions};
use crate::broker::Answer;
use crate::error::Result;
use crate::handler::{InboxKey, Reservation};

/// The record of one subscription.
pub(crate) trait Inbox: fmt::Debug + Send + Sync {
    /// Reserves a key, unless it is applied or reserved.
    fn reserve<'a>(&'a self, key: &'a InboxKey) -> Answer<'a, Result<Reservation>>;

    /// The record itself if it is in memory, which answers for a run of messages at once.
    fn in_memory(&self) -> Option<&MemoryInbox> {
        None
    }

    /// Ends reservations: applied (`true`) or released. Comes before the settlement of their messages.
    /// The emptied vector comes back, to be used again.
    fn finish(&self, keys: Vec<(InboxKey, bool)>) -> Answer<'_, Result<Vec<(InboxKey, bool)>>>;
}
