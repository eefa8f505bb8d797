use abe_events::event;

struct Opaque;

#[event(topic = "a", key = |order| Opaque)]
struct Order;

fn main() {}
