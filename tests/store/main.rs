//! The SQL store: the durable inbox, `Tx`, the outbox and its relay. Every case runs on each database there is a feature
//! for: the files of `cases/` are compiled once for each, with another `place` beside them.
#![allow(unused_crate_dependencies, reason = "what one kind of test uses, another does not")]

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;
mod support;
