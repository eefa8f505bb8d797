//! What the attributes make of structs and functions, and how the loops around a handler behave.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod batches;
mod events;
mod failures;
mod handlers;
mod registry;
mod runs;
mod script;
