use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[event(topic = "tick")]
struct Tick;

#[subscribe(ordered)]
async fn handle(_tick: &Tick) {}

fn main() {}
