use abe_events::{Batch, event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe(batch = "50")]
async fn handle(_orders: Batch<Order>) {}

fn main() {}
