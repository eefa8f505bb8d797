//! The contracts: what happened, as data. Nothing here knows who listens.

use abe_events::{data, event};

/// A customer signed up, as version 1 of the sign-up service told it. Old messages stay readable for ever.
#[event(topic = "user.registered", version = "v1", key = user_id)]
pub(crate) struct UserRegisteredV1 {
    pub(crate) user_id: u64,
    pub(crate) name: String,
}

/// A customer signed up.
#[event(topic = "user.registered", version = "v2", key = user_id, upcast_from = UserRegisteredV1)]
#[derive(Clone)]
pub(crate) struct UserRegistered {
    pub(crate) user_id: u64,
    pub(crate) name: String,
    /// Never in `Debug`, in logs or in an error's text.
    #[event(sensitive)]
    pub(crate) email: Option<String>,
}

impl From<UserRegisteredV1> for UserRegistered {
    fn from(old: UserRegisteredV1) -> Self {
        Self { user_id: old.user_id, name: old.name, email: None }
    }
}

/// A customer placed an order.
#[event(topic = "order.created", version = "v2", key = user_id)]
#[derive(Clone)]
pub(crate) struct OrderCreated {
    pub(crate) order_id: u64,
    pub(crate) user_id: u64,
    pub(crate) amount: f64,
    pub(crate) items: Vec<Item>,
}

/// A line of an order: data of an event, not an event.
#[data]
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
}

/// The bank took the money for an order.
#[event(topic = "order.paid", key = user_id)]
pub(crate) struct OrderPaid {
    pub(crate) order_id: u64,
    pub(crate) user_id: u64,
    pub(crate) amount: f64,
}

/// A large order waits for a person's consent.
#[event(topic = "review.requested")]
pub(crate) struct ReviewRequested {
    pub(crate) order_id: u64,
    pub(crate) amount: f64,
}

/// The customer was sent an invoice.
#[event(topic = "invoice.sent")]
pub(crate) struct InvoiceSent {
    pub(crate) order_id: u64,
}

/// What a customer does: a union, to subscribe to several topics with types.
#[event]
pub(crate) enum CustomerEvent {
    SignedUp(UserRegistered),
    Ordered(OrderCreated),
}
