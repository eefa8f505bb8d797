//! A library of handlers: in its root, in a private module, and in one that holds nothing else.
#![forbid(unsafe_code)]
#![deny(warnings)]

use bus::{Context, Result};

mod shipping;

/// An order was created.
#[bus::event(topic = "order.created", version = 2, key = id, upcast_from = OrderCreatedV1, crate = bus)]
#[derive(Clone)]
pub struct OrderCreated {
    /// Its number.
    pub id: u64,
}

/// An order was created, of old.
#[bus::event(topic = "order.created", crate = bus)]
pub struct OrderCreatedV1 {
    number: u32,
}

impl From<OrderCreatedV1> for OrderCreated {
    fn from(old: OrderCreatedV1) -> Self {
        Self { id: old.number.into() }
    }
}

#[bus::subscribe(name = "orders.bill", filter = |order| order.id > 0, idempotent(key = |order| order.id), crate = bus)]
async fn bill(_order: &OrderCreated, _context: &Context) -> Result<()> {
    Ok(())
}
