use abe_events::event;

#[event(topic = "a", version = VERSION)]
struct Order;

fn main() {}
