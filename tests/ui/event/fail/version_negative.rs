use abe_events::event;

#[event(topic = "a", version = -1)]
struct Order;

fn main() {}
