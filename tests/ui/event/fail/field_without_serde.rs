use abe_events::event;

struct Opaque;

#[event(topic = "a")]
struct Order {
    opaque: Opaque,
}

fn main() {}
