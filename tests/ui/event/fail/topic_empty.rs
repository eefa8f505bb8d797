use abe_events::event;

#[event(topic = "")]
struct Order;

fn main() {}
