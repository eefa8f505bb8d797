//! The cases, by what they are about. Each is a function of a [`Bench`](crate::conformance::bench::Bench) and knows no broker.

pub(crate) mod bounds;
pub(crate) mod closing;
pub(crate) mod dead_letter;
pub(crate) mod delivery;
pub(crate) mod groups;
pub(crate) mod hostile;
pub(crate) mod lease;
pub(crate) mod order;
pub(crate) mod restart;
pub(crate) mod retry;
