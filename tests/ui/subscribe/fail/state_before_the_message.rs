use abe_events::{State, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn handle(_limit: State<u64>, _order: &Order) {}

fn main() {}
