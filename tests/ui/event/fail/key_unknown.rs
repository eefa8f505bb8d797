use abe_events::event;

#[event(topic = "a", partitions = 2)]
struct Order;

fn main() {}
