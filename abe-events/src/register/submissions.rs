//! Registration through `inventory`.

use crate::event::EventDescriptor;
use crate::handler::{CrateLink, HandlerDescriptor};

/// What is submitted for an event.
#[derive(Debug)]
pub struct RegisteredEvent(pub &'static EventDescriptor);

/// What is submitted for a handler.
#[derive(Debug)]
pub struct RegisteredHandler(pub &'static HandlerDescriptor);

/// What is submitted for a `link!`.
#[derive(Debug)]
pub struct RegisteredCrates(pub &'static CrateLink);

inventory::collect!(RegisteredEvent);
inventory::collect!(RegisteredHandler);
inventory::collect!(RegisteredCrates);

pub(super) fn events() -> Vec<&'static EventDescriptor> {
    inventory::iter::<RegisteredEvent>().map(|registered| registered.0).collect()
}

pub(super) fn handlers() -> Vec<&'static HandlerDescriptor> {
    inventory::iter::<RegisteredHandler>().map(|registered| registered.0).collect()
}

pub(super) fn crates() -> Vec<&'static CrateLink> {
    inventory::iter::<RegisteredCrates>().map(|registered| registered.0).collect()
}

#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    (event $descriptor:expr) => {
        $crate::__private::inventory::submit! { $crate::__private::RegisteredEvent($descriptor) }
    };
    (handler $descriptor:expr) => {
        $crate::__private::inventory::submit! { $crate::__private::RegisteredHandler($descriptor) }
    };
    (crates $descriptor:expr) => {
        $crate::__private::inventory::submit! { $crate::__private::RegisteredCrates($descriptor) }
    };
}
