use abe_events::event;

// The attribute goes first: it cannot see what stands above it.
#[derive(serde::Serialize)]
#[event(topic = "a")]
struct Order;

fn main() {}
