use abe_events::event;

#[event(topic = "a", version = "2")]
struct Order;

fn main() {}
