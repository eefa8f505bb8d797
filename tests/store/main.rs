//! The SQL store: the durable inbox, `Tx`, the outbox and its relay. Every case runs on each database there is a feature
//! for: the files of `cases/` are compiled once for each, with another `place` beside them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::duplicate_mod, reason = "the same cases, once for each database")]

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
#[path = "../support/proxy.rs"]
mod proxy;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;
mod support;
