//! What everything that speaks to a SQL server needs to know about it: where it is, and how safely it is reached.

pub(crate) mod postgres_url;
