use abe_events::event;

#[event(topic = "order")]
struct V1;

#[event(topic = "order", version = 2, upcast_from = V1)]
struct V2;

fn main() {}
