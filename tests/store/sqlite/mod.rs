//! The cases on SQLite.

mod place;
#[path = "../cases/transactions.rs"]
mod transactions;
