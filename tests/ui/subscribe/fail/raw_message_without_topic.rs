use abe_events::{Message, event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe]
async fn handle(_message: &Message) {}

fn main() {}
