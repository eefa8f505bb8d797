use abe_events::{Tx, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

pub struct Mongo;

#[subscribe]
async fn handle(_order: &Order, _tx: Tx<Mongo>) {}

fn main() {}
