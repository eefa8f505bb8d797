use abe_events::sqlx::{self, Connection, Sqlite};
use abe_events::{Batch, Result, Tx, event, handlers, subscribe};

#[event(topic = "order", key = id)]
#[derive(Clone)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn by_value(order: &Order, mut tx: Tx<Sqlite>) -> Result<()> {
    sqlx::query("DELETE FROM orders WHERE id = ?").bind(order.id).execute(&mut *tx).await?;
    tx.publish(Order { id: order.id + 1 }).await?;
    tx.publishing(Order { id: 2 }).key("k").send().await?;
    Ok(())
}

#[subscribe]
async fn by_reference(order: &Order, tx: &mut Tx<Sqlite>) -> Result<Order> {
    let mut savepoint = tx.begin().await?;
    sqlx::query("DELETE FROM orders WHERE id = ?").bind(order.id).execute(&mut *savepoint).await?;
    savepoint.commit().await?;
    Ok(order.clone())
}

type Transaction = Tx<Sqlite>;

#[subscribe(batch = 10)]
async fn of_a_batch(_orders: Batch<Order>, tx: Option<Transaction>) -> Result<()> {
    drop(tx);
    Ok(())
}

fn main() {
    assert_eq!(handlers![by_value, by_reference, of_a_batch].len(), 3);
}
