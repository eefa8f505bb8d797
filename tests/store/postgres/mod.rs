//! The cases on PostgreSQL.

#[path = "../cases/batches.rs"]
mod batches;
mod commits;
#[path = "../cases/common.rs"]
mod common;
#[path = "../cases/duplicates.rs"]
mod duplicates;
#[path = "../cases/inbox.rs"]
mod inbox;
#[path = "../cases/kills.rs"]
mod kills;
#[path = "../cases/lost_leases.rs"]
mod lost_leases;
#[path = "../cases/outbox.rs"]
mod outbox;
mod own;
mod place;
#[path = "../cases/relay.rs"]
mod relay;
#[path = "../cases/relays.rs"]
mod relays;
#[path = "../cases/transactions.rs"]
mod transactions;
