//! The handlers: each has a queue of its own, and fails, waits and recovers on its own.

use abe_events::{Batch, Context, Result, State, subscribe};

use crate::events::{CustomerEvent, InvoiceSent, OrderCreated, OrderPaid, ReviewRequested, UserRegistered};
use crate::services::{Bank, History};

/// Idempotent: the sign-up service publishes again when it is not sure, the customer still gets one mail.
#[subscribe(name = "welcome", idempotent)]
async fn welcome(user: &UserRegistered) {
    println!("welcome   {user:?}");
}

/// Packs every order, beside the other handlers of the same event.
#[subscribe(name = "pack")]
async fn pack(order: &OrderCreated) {
    let parcels: Vec<String> = order.items.iter().map(|item| format!("{} x {}", item.quantity, item.sku)).collect();
    println!("pack      order {}: {}", order.order_id, parcels.join(", "));
}

/// Filtered: orders up to 100 are acked and counted, and never get here.
#[subscribe(name = "review", filter = |order| order.amount > 100.0)]
async fn review(order: &OrderCreated, ctx: &Context) -> Result<()> {
    ctx.publish(ReviewRequested { order_id: order.order_id, amount: order.amount }).await?;
    Ok(())
}

/// One hop further: the correlation id is that of the order, whose id began the chain.
#[subscribe(name = "consent")]
async fn consent(request: &ReviewRequested, ctx: &Context) {
    println!("consent   order {} over {:.2}, hop {}", request.order_id, request.amount, ctx.hops());
}

/// What it returns is published before its message is acked; what fails is tried again, three times in all.
#[subscribe(name = "charge", idempotent, retry(attempts = 3, min = "20ms", max = "50ms"))]
async fn charge(order: &OrderCreated, bank: &Bank) -> Result<OrderPaid> {
    bank.charge(order.user_id, order.amount)?;
    Ok(OrderPaid { order_id: order.order_id, user_id: order.user_id, amount: order.amount })
}

/// Up to three payments per call, none of which waits for longer than 300 ms.
#[subscribe(name = "invoice", batch = 3, max_wait = "300ms")]
async fn invoice(payments: Batch<OrderPaid>) -> Vec<InvoiceSent> {
    let total: f64 = payments.iter().map(|paid| paid.amount).sum();
    println!("invoice   {} payments, {total:.2} in all", payments.len());
    payments.iter().map(|paid| InvoiceSent { order_id: paid.order_id }).collect()
}

/// State comes from the builder; a state nobody gave is an error at start, not at the first message.
#[subscribe(name = "file")]
async fn file(invoice: &InvoiceSent, State(history): State<History>) {
    history.invoiced(invoice.order_id);
}

/// Four at once, and yet one after another for each customer: `ordered` follows the events' key, over both topics.
#[subscribe(name = "history", ordered, concurrency = 4, idempotent)]
async fn history(event: &CustomerEvent, State(history): State<History>) {
    match event {
        CustomerEvent::SignedUp(user) => history.note(user.user_id, format!("{} signed up", user.name)),
        CustomerEvent::Ordered(order) => history.note(order.user_id, format!("order {}", order.order_id)),
    }
}
