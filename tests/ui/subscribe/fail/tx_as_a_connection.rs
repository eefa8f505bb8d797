use abe_events::sqlx::SqliteConnection;
use abe_events::{event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: i64,
}

#[subscribe]
async fn handle(_order: &Order, _connection: &mut SqliteConnection) {}

fn main() {}
