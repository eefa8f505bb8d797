use abe_events::event;

#[event(topic = "a", key = Self::user)]
struct Order;

fn main() {}
