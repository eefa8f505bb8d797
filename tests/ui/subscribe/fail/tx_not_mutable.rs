use abe_events::sqlx::{self, Sqlite};
use abe_events::{Result, Tx, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn handle(order: &Order, tx: Tx<Sqlite>) -> Result<()> {
    sqlx::query("DELETE FROM orders WHERE id = ?").bind(order.id).execute(&mut *tx).await?;
    Ok(())
}

fn main() {}
