//! Registration through `linkme`.
//!
//! A slice's identifier is a section name of the whole binary. The number rises with every breaking release: two
//! releases in one binary must not share a section.

use linkme::distributed_slice;

use crate::event::EventDescriptor;
use crate::handler::{CrateLink, HandlerDescriptor};

/// The linked events.
#[distributed_slice]
pub static ABE_EVENTS_EVENTS_1: [&'static EventDescriptor];

/// The linked handlers.
#[distributed_slice]
pub static ABE_EVENTS_HANDLERS_1: [&'static HandlerDescriptor];

/// The crates named by `link!`.
#[distributed_slice]
pub static ABE_EVENTS_CRATES_1: [&'static CrateLink];

pub(super) fn events() -> Vec<&'static EventDescriptor> {
    ABE_EVENTS_EVENTS_1.iter().copied().collect()
}

pub(super) fn handlers() -> Vec<&'static HandlerDescriptor> {
    ABE_EVENTS_HANDLERS_1.iter().copied().collect()
}

pub(super) fn crates() -> Vec<&'static CrateLink> {
    ABE_EVENTS_CRATES_1.iter().copied().collect()
}

#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    (event $descriptor:expr) => {
        const _: () = {
            #[$crate::__private::linkme::distributed_slice($crate::__private::ABE_EVENTS_EVENTS_1)]
            #[linkme(crate = $crate::__private::linkme)]
            static REGISTERED: &'static $crate::EventDescriptor = $descriptor;
        };
    };
    (handler $descriptor:expr) => {
        const _: () = {
            #[$crate::__private::linkme::distributed_slice($crate::__private::ABE_EVENTS_HANDLERS_1)]
            #[linkme(crate = $crate::__private::linkme)]
            static REGISTERED: &'static $crate::handler::HandlerDescriptor = $descriptor;
        };
    };
    (crates $descriptor:expr) => {
        const _: () = {
            #[$crate::__private::linkme::distributed_slice($crate::__private::ABE_EVENTS_CRATES_1)]
            #[linkme(crate = $crate::__private::linkme)]
            static REGISTERED: &'static $crate::handler::CrateLink = $descriptor;
        };
    };
}
