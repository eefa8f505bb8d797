//! What the first parameter of a handler may be, decided by traits, so that type aliases work.

use std::sync::Arc;

use super::batch::Batch;
use crate::broker::Delivery;
use crate::event::{EventDescriptor, Incoming, Unreadable};
use crate::message::Message;

/// How many messages one call of a handler takes.
pub trait Form: Send + 'static {
    /// Whether it is several.
    const BATCH: bool;
}

/// One message per call.
#[derive(Debug)]
pub enum One {}

/// A batch per call.
#[derive(Debug)]
pub enum Many {}

impl Form for One {
    const BATCH: bool = false;
}
impl Form for Many {
    const BATCH: bool = true;
}

/// What the first parameter of a handler may be: `T`, `&T`, `Arc<T>` or `Batch<T>` of an [`Incoming`] type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the message parameter of a `#[subscribe]` handler",
    label = "neither an event nor a union of events",
    note = "the first parameter is an event declared with `#[event(topic = \"...\")]`, as `T`, `&T`, `Arc<T>` or `Batch<T>`, or `Message`",
    note = "extractors come after it: `async fn handle(event: &OrderCreated, mut tx: Tx<Sqlite>)`"
)]
pub trait Receive: Sized + Send + 'static {
    /// What is decoded, and what filters and key expressions see.
    type Item: Incoming;
    /// What a call owns while it runs.
    type Held: Send + 'static;
    /// One message per call, or a batch.
    type Form: Form;

    /// Takes over what was decoded for a call; `None` when there is nothing.
    fn hold(items: &mut Vec<Arc<Self::Item>>, deliveries: &[Delivery]) -> Option<Self::Held>;

    /// The same for a call of one message, which a batch is not.
    fn hold_one(item: Arc<Self::Item>) -> Option<Self::Held>;
}

#[diagnostic::do_not_recommend]
impl<T: Incoming> Receive for T {
    type Item = T;
    type Held = Arc<T>;
    type Form = One;

    fn hold(items: &mut Vec<Arc<T>>, _: &[Delivery]) -> Option<Arc<T>> {
        items.pop()
    }

    #[inline]
    fn hold_one(item: Arc<T>) -> Option<Arc<T>> {
        Some(item)
    }
}

impl<T: Incoming> Receive for Arc<T> {
    type Item = T;
    type Held = Self;
    type Form = One;

    fn hold(items: &mut Vec<Self>, _: &[Delivery]) -> Option<Self> {
        items.pop()
    }

    #[inline]
    fn hold_one(item: Self) -> Option<Self> {
        Some(item)
    }
}

impl<T: Incoming> Receive for Batch<T> {
    type Item = T;
    type Held = Self;
    type Form = Many;

    fn hold(items: &mut Vec<Arc<T>>, deliveries: &[Delivery]) -> Option<Self> {
        let messages = deliveries.iter().map(|delivery| delivery.message.clone()).collect();
        // The vector grows with the next batch; half of its capacity would be garbage for a handler that keeps the batch.
        Some(Self::new(std::mem::take(items), messages))
    }

    fn hold_one(_: Arc<T>) -> Option<Self> {
        None
    }
}

/// A message parameter that is taken by value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken by value: it is not `Clone`",
    label = "a message is shared, so a handler's own value is a copy",
    note = "take `&{Self}` or `Arc<{Self}>`, or derive `Clone` for it"
)]
pub trait Own: Receive {
    /// The parameter of what a call holds.
    fn own(held: Self::Held) -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Incoming + Clone> Own for T {
    fn own(held: Arc<T>) -> T {
        // Never the last owner: the delivery keeps the message until its verdict is known.
        T::clone(&held)
    }
}

impl<T: Incoming> Own for Arc<T> {
    fn own(held: Self) -> Self {
        held
    }
}

impl<T: Incoming> Own for Batch<T> {
    fn own(held: Self) -> Self {
        held
    }
}

/// A handler of raw messages takes any contract of the topics its attribute names.
impl Incoming for Message {
    const KEYED: bool = true;
    const RAW: bool = true;

    fn contracts() -> Vec<&'static EventDescriptor> {
        Vec::new()
    }

    fn open(message: &Message) -> Result<Arc<Self>, Unreadable> {
        Ok(Arc::new(message.clone()))
    }
}
