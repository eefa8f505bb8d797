use abe_events::event;

#[event(topic = "_INBOX.x")]
struct Order;

fn main() {}
