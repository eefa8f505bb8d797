use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe(ordered = "id")]
async fn handle(_order: &Order) {}

fn main() {}
