use abe_events::event;

#[event(topic = "заказ")]
struct Order;

fn main() {}
