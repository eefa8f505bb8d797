use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[event(topic = "big")]
struct Big;

#[subscribe]
async fn handle(_big: Big) {}

fn main() {}
