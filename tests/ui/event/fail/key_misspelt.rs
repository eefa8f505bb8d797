use abe_events::event;

#[event(topic = "a", verison = 2)]
struct Order;

fn main() {}
