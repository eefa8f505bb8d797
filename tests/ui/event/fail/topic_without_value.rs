use abe_events::event;

#[event(topic =, version = 2)]
struct Order;

fn main() {}
