use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

pub struct Ledger;

#[subscribe]
async fn handle(_order: &Order, _ledger: &mut Ledger) {}

fn main() {}
