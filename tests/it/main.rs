//! What the runtime promises, one named test per promise; `iNN` is the invariant's number in docs/guarantees.md.
#![expect(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

mod accounting;
mod backpressure;
mod batches;
mod chains;
mod codecs;
mod contracts;
mod delivery;
mod filters;
mod idempotency;
mod lanes;
mod leases;
mod limits;
mod ordering;
mod panics;
mod registry;
mod retries;
mod rounds;
mod secrets;
mod shutdown;
mod signals;
mod support;
mod timeouts;
