use abe_events::event;

#[event(topic = "$JS.API")]
struct Order;

fn main() {}
