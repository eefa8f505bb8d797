use abe_events::event;

#[event(topic = "a", key = "user_id")]
struct Order {
    user_id: u64,
}

fn main() {}
