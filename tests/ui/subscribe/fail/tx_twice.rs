use abe_events::sqlx::Sqlite;
use abe_events::{Tx, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn handle(_order: &Order, _one: Tx<Sqlite>, _limit: &u64, _other: &mut Tx<Sqlite>) {}

fn main() {}
