use abe_events::{Context, event, subscribe};

#[event(topic = "tick")]
pub struct Tick;

#[subscribe]
async fn handle(_tick: &Tick, _1: &Context, _2: &u8, _3: &u16, _4: &u32, _5: &u64, _6: &i8, _7: Option<Context>) {}

fn main() {}
