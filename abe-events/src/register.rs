//! What was linked in; filled by the registration macro.
use crate::{
    event::EventDescriptor,
    handler::{CrateLink, HandlerDescriptor},
};
pub(crate) fn linked_events() -> Vec<&'static EventDescriptor> {
    vec![]
}
pub(crate) fn linked_handlers() -> Vec<&'static HandlerDescriptor> {
    vec![]
}
pub(crate) fn linked_crates() -> Vec<&'static CrateLink> {
    vec![]
}
