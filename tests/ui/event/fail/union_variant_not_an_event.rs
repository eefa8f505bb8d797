use abe_events::event;

#[derive(Clone)]
struct A;

#[event]
enum Any {
    A(A),
}

fn main() {}
