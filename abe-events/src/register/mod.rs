//! Link-time registration: what `#[event]`, `#[subscribe]` and `link!` leave in the binary, gathered.
//!
//! `linkme` where it is sound: a read-only slice, no code before `main`. `inventory` where `linkme` does not build (wasm),
//! aborts (Miri) or is silently empty (windows-gnu, Rust dylibs, the latter by the feature `registry-inventory`). The
//! choice is made here, on the definitions, so that every crate of a build agrees.

#[cfg(all(
    any(
        target_os = "linux",
        target_os = "android",
        target_os = "macos",
        target_os = "ios",
        target_os = "freebsd",
        target_os = "illumos",
        all(target_os = "windows", target_env = "msvc")
    ),
    not(miri),
    not(feature = "registry-inventory")
))]
#[path = "slices.rs"]
mod chosen;

#[cfg(not(all(
    any(
        target_os = "linux",
        target_os = "android",
        target_os = "macos",
        target_os = "ios",
        target_os = "freebsd",
        target_os = "illumos",
        all(target_os = "windows", target_env = "msvc")
    ),
    not(miri),
    not(feature = "registry-inventory")
)))]
#[path = "submissions.rs"]
mod chosen;

pub use self::chosen::*;
use crate::event::EventDescriptor;
use crate::handler::{CrateLink, HandlerDescriptor};

/// Every event of the linked crates, sorted: what a linker gathers has no order of its own.
pub fn linked_events() -> Vec<&'static EventDescriptor> {
    let mut events = chosen::events();
    events.sort_by_key(|event| (event.topic, event.version, event.name, event.at));
    events
}

/// Every handler of the linked crates, sorted by name.
pub fn linked_handlers() -> Vec<&'static HandlerDescriptor> {
    let mut handlers = chosen::handlers();
    handlers.sort_by_key(|handler| (handler.spec.name, handler.spec.at));
    handlers
}

/// Every `link!`, sorted by place.
pub fn linked_crates() -> Vec<&'static CrateLink> {
    let mut links = chosen::crates();
    links.sort_by_key(|link| link.at);
    links
}
