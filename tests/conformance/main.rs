//! The conformance suite: what a broker promises, written once against the seam and run against every broker.
//!
//! [`table`] lists the cases, [`bench`] holds what they work with, `memory` runs them against the memory broker, and
//! once by its general way and once by its shorter ones (`shortcut`), and
//! `mutants` proves them: each broker with a deliberate fault must fail at least one named case.
//! `ABE_CONFORMANCE=stress` runs the full numbers.

mod bench;
mod cases;
mod memory;
mod mutants;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
mod shortcut;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;
