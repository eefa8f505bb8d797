use abe_events::event;

#[event(topic = "a", codec)]
struct Order;

fn main() {}
