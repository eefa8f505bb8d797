use abe_events::event;

#[event(topic = "a", key = |a, b| 1)]
struct Order;

fn main() {}
