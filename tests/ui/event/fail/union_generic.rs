use abe_events::event;

#[event]
enum Any<T> {
    A(T),
}

fn main() {}
