use abe_events::sqlx::Sqlite;
use abe_events::{Tx, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

type Transaction = Tx<Sqlite>;

#[subscribe]
async fn handle(_tx: &Transaction, _order: &Order) {}

fn main() {}
