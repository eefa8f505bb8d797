//! Where the test kit looks in: before a delivery reaches its handler, and when it ended.

use std::fmt;

use crate::broker::Delivery;
use crate::handler::Ended;

/// Sees every delivery of a runtime; may end one before its handler, or change how it ended.
pub(crate) trait Observer: fmt::Debug + Send + Sync {
    /// Ends a delivery before it reaches the handler.
    fn before(&self, subscription: &str, delivery: &Delivery) -> Option<Ended>;

    /// Sees how a delivery ended, and may have it end otherwise.
    fn after(&self, subscription: &str, delivery: &Delivery, ended: Ended) -> Ended;
}
