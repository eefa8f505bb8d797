use abe_events::{BatchOutcome, event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe]
async fn handle(_order: &Order) -> BatchOutcome {
    BatchOutcome::others(abe_events::Outcome::ack())
}

fn main() {}
