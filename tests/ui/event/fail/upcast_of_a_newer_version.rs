use abe_events::event;

#[event(topic = "order", version = 3)]
struct V3;

#[event(topic = "order", version = 2, upcast_from = V3)]
struct V2;

impl From<V3> for V2 {
    fn from(_: V3) -> Self {
        V2
    }
}

fn main() {}
