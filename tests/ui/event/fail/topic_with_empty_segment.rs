use abe_events::event;

#[event(topic = "order..created")]
struct Order;

fn main() {}
