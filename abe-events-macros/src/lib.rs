//! The attribute macros of `abe-events`. Documentation lives on the re-exports there.
