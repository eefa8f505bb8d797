//! Everything that generated code names. Nothing here is public API; it may change in any release.

pub use ::inventory;
pub use ::linkme;
pub use ::serde;
pub use ::serde_json;
#[cfg(feature = "macros")]
pub use abe_events_macros::__handlers;
pub use compact_str::CompactString;

pub use crate::contract::{
    Returned, ReturnsAnything, ReturnsOutcome, check, check_batch, check_codec, check_ordered, check_transaction, check_union,
    check_upcast, content_type, contracts, crate_of, key_text, read, read_older, takes_batch, upcast,
};
pub use crate::handler::generated::*;
pub use crate::handler::{BoxWorker, CrateLink, HandlerDescriptor, HeaderRule, IntoOutcome, Meta, Resolver, Spec};
pub use crate::policy::{Backoff, PolicyPatch, WhenFull};
pub use crate::publisher::Limits;
pub use crate::register::*;
#[cfg(feature = "testing")]
pub use crate::testing::run_test;
pub use crate::{__here as here, __register as register};
