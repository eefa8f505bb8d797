use abe_events::event;

#[event(version = 2)]
enum Order {
    Created { id: u64 },
}

fn main() {}
