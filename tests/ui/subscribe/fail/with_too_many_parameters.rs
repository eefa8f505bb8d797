use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe]
async fn handle(_order: &Order, _1: &u8, _2: &u8, _3: &u8, _4: &u8, _5: &u8, _6: &u8, _7: &u8, _8: &u8) {}

fn main() {}
