use abe_events::event;

#[event(topic = "a", codec = "json")]
struct Order;

fn main() {}
