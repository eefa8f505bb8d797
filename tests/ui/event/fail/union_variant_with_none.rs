use abe_events::event;

#[event(topic = "a")]
#[derive(Clone)]
struct A;

#[event]
enum Any {
    A(A),
    Other,
}

fn main() {}
