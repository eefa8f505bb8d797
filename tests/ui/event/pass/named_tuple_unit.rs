use abe_events::{Event, event};

/// Named.
#[event(topic = "order.created", version = "v2", key = user_id)]
pub struct OrderCreated {
    pub order_id: u64,
    pub user_id: u64,
}

#[event(topic = "ping", key = 0)]
#[derive(Clone, Copy)]
struct Ping(u8);

#[event(topic = "tick")]
struct Tick;

fn main() {
    assert_eq!(OrderCreated { order_id: 1, user_id: 2 }.key().as_deref(), Some("2"));
    assert_eq!(Ping(3).key().as_deref(), Some("3"));
    assert!(Tick.key().is_none());
}
