use abe_events::event;

#[event(topic = "a")]
struct A;

#[event]
enum Any {
    A(A),
}

fn main() {}
