use abe_events::event;

#[event(topic = "a")]
fn order() {}

fn main() {}
