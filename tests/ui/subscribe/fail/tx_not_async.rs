use abe_events::sqlx::Sqlite;
use abe_events::{Tx, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
fn handle(_order: &Order, _tx: &mut Tx<Sqlite>) {}

fn main() {}
