use abe_events::event;

#[event(topic = "a", crate = "abe")]
struct Order;

fn main() {}
