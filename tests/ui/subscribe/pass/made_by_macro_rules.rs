use abe_events::{event, subscribe};

#[event(topic = "tick", key = 0)]
pub struct Tick(u8);

macro_rules! handlers {
    ($($name:ident($event:ty, $state:ty) $attempts:literal;)+) => {$(
        #[subscribe(retry(attempts = $attempts), filter = |tick| tick.0 > 0)]
        async fn $name(_event: &$event, _state: $state) {}
    )+};
}

handlers! {
    one(Tick, &u8) 1;
    two(Tick, abe_events::Context) 2;
}

fn main() {}
