abe_events::link!(orders);

fn main() {}
