use abe_events::event;

#[event(topic = "order.*")]
struct Order;

fn main() {}
