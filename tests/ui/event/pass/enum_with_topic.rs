use abe_events::{Event, event};

#[event(topic = "payment", key = |payment| match payment { Payment::Card(id) | Payment::Cash { id } => *id })]
pub enum Payment {
    Card(u64),
    Cash { id: u64 },
}

fn main() {
    assert_eq!(Payment::Cash { id: 7 }.key().as_deref(), Some("7"));
    assert_eq!(Payment::Card(8).key().as_deref(), Some("8"));
}
