use abe_events::event;

#[event(topic = "a")]
struct Order<'a> {
    name: &'a str,
}

fn main() {}
