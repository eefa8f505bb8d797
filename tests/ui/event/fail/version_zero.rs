use abe_events::event;

#[event(topic = "a", version = 0)]
struct Order;

fn main() {}
