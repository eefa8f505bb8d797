use abe_events::sqlx::Sqlite;
use abe_events::{Tx, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn handle(_tx: &mut Tx<Sqlite>, _order: &Order) {}

fn main() {}
