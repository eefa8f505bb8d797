use abe_events::event;

#[event(topic = "a")]
#[derive(Clone)]
struct A;

#[event(topic = "a", version = 2)]
#[derive(Clone)]
struct B;

#[event]
enum Any {
    A(A),
    B(B),
}

fn main() {}
