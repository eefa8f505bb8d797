//! The conformance suite, `abe_events::conformance`, run against every broker of ours.
//!
//! `memory` runs each case by name against the memory broker, and once more by its shorter ways (`shortcut`), `sqlite`,
//! `postgres`, `nats` and `redis` run it on their stores; `page` holds docs/backends.md to what they found. `mutants` proves the cases: each
//! broker with a deliberate fault must fail at least one that is named; `suite` proves what runs them.
//! `ABE_CONFORMANCE=stress` runs the full numbers.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod memory;
mod mutants;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
#[path = "../support/nats.rs"]
mod nats_server;
mod page;
#[cfg(feature = "postgres")]
#[path = "../support/pgbouncer.rs"]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
#[path = "../support/redis.rs"]
mod redis_server;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
mod shortcut;
#[cfg(feature = "sqlite")]
mod sqlite;
mod suite;

use std::io::Write;

use abe_events::conformance::{Backend, Report, Suite};

/// Runs all cases from a test that has no runtime.
fn run_all(backend: impl Backend) -> Report {
    run(Suite::new(backend))
}

/// Runs a suite from a test that has no runtime.
fn run(suite: Suite) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(suite.run())
}

/// Prints past the test harness, which would keep it to itself.
fn say(report: &Report) {
    let _ = writeln!(std::io::stdout(), "{report}");
}
