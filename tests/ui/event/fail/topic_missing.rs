use abe_events::event;

#[event]
struct Order {
    id: u64,
}

fn main() {}
