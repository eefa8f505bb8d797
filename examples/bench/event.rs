//! The payload: 247 bytes of JSON, seven allocations with its `Arc`.

use abe_events::{data, event};

/// A customer placed an order.
#[event(topic = "order.created")]
pub(crate) struct OrderCreated {
    pub(crate) id: String,
    pub(crate) user_id: u64,
    pub(crate) amount: f64,
    pub(crate) items: Vec<Item>,
    pub(crate) timestamp: String,
}

/// What was ordered.
#[data]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
    pub(crate) price: f64,
}
