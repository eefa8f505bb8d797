use abe_events::sqlx::{Sqlite, Transaction};
use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn handle(_order: &Order, _tx: Transaction<'static, Sqlite>) {}

fn main() {}
