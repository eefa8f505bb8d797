use abe_events::event;

#[event(topic = "order", version = 1, upcast_from = V2)]
struct V1;

#[event(topic = "order", version = 2, upcast_from = V1)]
struct V2;

impl From<V1> for V2 {
    fn from(_: V1) -> Self {
        V2
    }
}

impl From<V2> for V1 {
    fn from(_: V2) -> Self {
        V1
    }
}

fn main() {}
