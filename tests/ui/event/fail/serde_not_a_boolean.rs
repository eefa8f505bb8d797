use abe_events::event;

#[event(topic = "a", serde = "no")]
struct Order;

fn main() {}
