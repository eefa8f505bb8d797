use abe_events::event;

struct V1;

#[event(topic = "order", version = 2, upcast_from = V1)]
struct V2;

impl From<V1> for V2 {
    fn from(_: V1) -> Self {
        V2
    }
}

fn main() {}
