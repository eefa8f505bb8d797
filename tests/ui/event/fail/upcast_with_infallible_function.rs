use abe_events::event;

#[event(topic = "order")]
struct V1;

#[event(topic = "order", version = 2, upcast_from = V1, upcast_with = convert)]
struct V2;

fn convert(_: V1) -> V2 {
    V2
}

fn main() {}
