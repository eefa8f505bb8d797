use abe_events::data;

#[data]
struct Card {
    cvv: u16,
}

fn main() {}
