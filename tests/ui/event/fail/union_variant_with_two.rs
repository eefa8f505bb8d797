use abe_events::event;

#[event(topic = "a")]
#[derive(Clone)]
struct A;

#[event]
enum Any {
    A(A, u8),
}

fn main() {}
