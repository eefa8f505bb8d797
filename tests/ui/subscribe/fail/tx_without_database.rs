use abe_events::{Tx, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn handle(_order: &Order, _tx: Tx) {}

fn main() {}
