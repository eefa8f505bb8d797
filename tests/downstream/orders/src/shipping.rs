//! Nothing but a handler.

#[bus::subscribe(name = "orders.ship", batch = 10, crate = bus)]
async fn ship(_orders: bus::Batch<crate::OrderCreated>) {}
