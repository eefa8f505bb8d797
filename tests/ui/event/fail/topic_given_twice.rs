use abe_events::event;

#[event(topic = "a", topic = "b")]
struct Order;

fn main() {}
