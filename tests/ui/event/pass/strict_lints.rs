#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
//! Generated code gives no lint a reason to speak.

use abe_events::{data, event};

/// An item.
#[data]
#[derive(Debug, Clone)]
pub struct Item {
    /// What it costs.
    pub price: u64,
}

/// An order.
#[event(topic = "order", version = 2, key = |order| order.items.len(), upcast_from = OrderV1)]
#[derive(Debug, Clone)]
pub struct Order {
    /// What was ordered.
    pub items: Vec<Item>,
}

/// An order of old.
#[event(topic = "order")]
#[derive(Debug)]
pub struct OrderV1;

impl From<OrderV1> for Order {
    fn from(_: OrderV1) -> Self {
        Self { items: Vec::new() }
    }
}

/// Any event.
#[event]
#[derive(Debug)]
pub enum Any {
    /// An order.
    Order(Order),
}

fn main() {}
