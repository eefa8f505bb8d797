use abe_events::data;

#[data]
fn card() {}

fn main() {}
