use abe_events::event;

#[event(topic = "a")]
union Order {
    a: u8,
}

fn main() {}
