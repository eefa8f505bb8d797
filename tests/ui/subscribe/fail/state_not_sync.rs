use abe_events::{State, event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe]
async fn handle(_order: &Order, _cell: State<std::cell::Cell<u8>>) {}

fn main() {}
