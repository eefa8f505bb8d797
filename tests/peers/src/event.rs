//! The payload of the benchmark, with what the peers want of it.

use abe_events::{data, event};
use ruststream::Outgoing;

/// A customer placed an order.
#[event(topic = "order.created")]
#[derive(Outgoing)]
#[outgoing(name = "order.created")]
pub struct OrderCreated {
    pub id: String,
    pub user_id: u64,
    pub amount: f64,
    pub items: Vec<Item>,
    pub timestamp: String,
}

/// What was ordered.
#[data]
pub struct Item {
    pub sku: String,
    pub quantity: u32,
    pub price: f64,
}
