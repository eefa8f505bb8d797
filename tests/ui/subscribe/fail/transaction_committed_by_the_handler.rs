use abe_events::sqlx::Sqlite;
use abe_events::{Result, Tx, event, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: u64,
    total: f64,
}

#[subscribe]
async fn handle(_order: &Order, tx: Tx<Sqlite>) -> Result<()> {
    Ok(tx.commit().await?)
}

fn main() {}
