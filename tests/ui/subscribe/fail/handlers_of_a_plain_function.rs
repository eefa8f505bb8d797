use abe_events::event;

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

fn plain() {}

fn main() {
    let _ = abe_events::handlers![plain];
}
