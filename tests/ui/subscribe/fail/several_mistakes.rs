use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe(batch = 0, timeout = 5, fliter = |order| true)]
fn handle<T>(_order: &mut Order) -> impl Send {}

fn main() {}
