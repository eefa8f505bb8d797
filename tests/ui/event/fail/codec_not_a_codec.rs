use abe_events::event;

struct Cbor;

#[event(topic = "a", codec = Cbor)]
struct Order;

fn main() {}
