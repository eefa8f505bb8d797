//! What everything that speaks to a SQL database needs to know about it: where it is, and how safely it is reached.

#[cfg(feature = "postgres")]
pub(crate) mod postgres_url;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite_file;
