use abe_events::event;

#[event("order.created")]
struct Order;

fn main() {}
