use abe_events::data;

#[data(topic = "a")]
struct Card;

fn main() {}
