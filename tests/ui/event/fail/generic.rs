use abe_events::event;

#[event(topic = "a")]
struct Order<T> {
    item: T,
}

fn main() {}
