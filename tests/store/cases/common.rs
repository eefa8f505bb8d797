//! What the cases of one database share.

use abe_events::sqlx::{self, AssertSqlSafe};
use abe_events::{Result, Tx};

use super::place::{Db, Place};

/// A program's own statement within the transaction.
pub(crate) async fn write(tx: &mut Tx<Db>, number: i64, note: &str) -> Result<()> {
    sqlx::query("INSERT INTO effect (number, note) VALUES ($1, $2)").bind(number).bind(note).execute(&mut **tx).await?;
    Ok(())
}

/// What was written, in order.
pub(crate) async fn effects(place: &Place) -> Vec<i64> {
    sqlx::query_scalar("SELECT number FROM effect ORDER BY number").fetch_all(&place.pool).await.unwrap()
}

/// How many rows one of the store's tables has.
pub(crate) async fn rows(place: &Place, table: &str) -> i64 {
    number(place, &format!("SELECT count(*) FROM {}", Place::table(table))).await
}

/// What a statement answers.
pub(crate) async fn number(place: &Place, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&place.pool).await.unwrap()
}

/// Runs a statement.
pub(crate) async fn run(place: &Place, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&place.pool).await.unwrap();
}
