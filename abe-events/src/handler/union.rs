//! What a variant of a union of events may hold.

use std::sync::Arc;

use crate::event::{Event, Incoming, Unreadable};
use crate::message::Message;

/// What a variant of a union of events may hold: an event that is `Clone`, or an `Arc` of an event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a variant of a union of events",
    label = "neither an event that is `Clone`, nor an `Arc` of an event",
    note = "hold `Arc<{Self}>` if `{Self}` is an event, or derive `Clone` for it"
)]
pub trait UnionVariant: Sized {
    /// The event.
    type Event: Event;

    /// The variant's value of a message.
    ///
    /// # Errors
    ///
    /// As [`Incoming::open`].
    fn open(message: &Message) -> Result<Self, Unreadable>;
}

#[diagnostic::do_not_recommend]
impl<T: Event + Clone> UnionVariant for T {
    type Event = T;

    fn open(message: &Message) -> Result<T, Unreadable> {
        <T as Incoming>::open(message).map(|event| T::clone(&event))
    }
}

impl<T: Event> UnionVariant for Arc<T> {
    type Event = T;

    fn open(message: &Message) -> Result<Self, Unreadable> {
        <T as Incoming>::open(message)
    }
}
