use abe_events::event;

#[event]
enum Any {}

fn main() {}
