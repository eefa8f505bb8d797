use abe_events::event;

#[event(topic = "a", upcast_with = convert)]
struct Order;

fn main() {}
