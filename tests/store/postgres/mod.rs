//! The cases on PostgreSQL.

mod place;
#[path = "../cases/transactions.rs"]
mod transactions;
