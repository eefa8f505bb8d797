use abe_events::event;

#[event(topic = "a", version = 65536)]
struct Order;

fn main() {}
