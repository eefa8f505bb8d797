use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

fn wanted(_: &String) -> bool {
    true
}

#[subscribe(filter = wanted)]
async fn handle(_order: &Order) {}

fn main() {}
