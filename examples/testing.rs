//! Testing: the production pipeline with paused time; an hour of retries passes at once, and nothing is guessed by sleeping.
//!
//! ```sh
//! cargo test --example testing
//! ```
//!
//! The tests are at the end of this file; its `main` only says how to run them:
//!
//! ```text
//! run me with: cargo test --example testing
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

use abe_events::{Context, Error, Result, event, subscribe};

/// A customer placed an order.
#[event(topic = "order.created", key = order_id)]
struct OrderCreated {
    order_id: u64,
    amount: f64,
}

/// A large order waits for a person's consent.
#[event(topic = "review.requested")]
struct ReviewRequested {
    order_id: u64,
}

#[subscribe(name = "review", filter = |order| order.amount > 100.0)]
async fn review(order: &OrderCreated, ctx: &Context) -> Result<()> {
    ctx.publish(ReviewRequested { order_id: order.order_id }).await?;
    Ok(())
}

#[subscribe(name = "charge", idempotent, retry(attempts = 3, min = "10m", max = "1h"))]
async fn charge(order: &OrderCreated) -> Result<()> {
    if order.amount < 0.0 {
        return Err(Error::permanent("a negative amount"));
    }
    Ok(())
}

fn main() {
    println!("run me with: cargo test --example testing");
}

#[cfg(test)]
mod tests {
    use abe_events::handlers;
    use abe_events::testing::TestBus;

    use super::*;

    #[abe_events::test]
    async fn large_orders_are_reviewed(bus: TestBus) {
        let bus = bus.handlers(handlers![review]).start().await;
        bus.publish(OrderCreated { order_id: 1, amount: 20.0 }).await;
        bus.publish(OrderCreated { order_id: 2, amount: 250.0 }).await;
        bus.settled().await;
        assert_eq!((bus.handled("review"), bus.filtered("review")), (1, 1));
        assert_eq!(bus.published::<ReviewRequested>()[0].order_id, 2);
    }

    #[abe_events::test]
    async fn a_failing_charge_is_tried_again(bus: TestBus) {
        let bus = bus.handlers(handlers![charge]).start().await;
        bus.fail_next("charge", 2, "the bank does not answer");
        bus.publish(OrderCreated { order_id: 1, amount: 20.0 }).await;
        bus.settled().await;
        assert_eq!((bus.failed("charge"), bus.handled("charge")), (2, 1));
    }

    #[abe_events::test]
    async fn a_duplicate_is_charged_once(bus: TestBus) {
        let bus = bus.handlers(handlers![charge]).start().await;
        bus.duplicate_next(1);
        bus.publish(OrderCreated { order_id: 1, amount: 20.0 }).await;
        bus.settled().await;
        assert_eq!((bus.handled("charge"), bus.duplicates("charge")), (1, 1));
    }

    #[abe_events::test]
    async fn a_crash_before_the_ack_repeats_the_charge_but_not_its_effect(bus: TestBus) {
        let bus = bus.handlers(handlers![charge]).start().await;
        bus.crash_before_settle("charge", 1);
        bus.publish(OrderCreated { order_id: 1, amount: 20.0 }).await;
        bus.settled().await;
        assert!(bus.monitor().balances());
    }

    /// A dead letter that the test does not look at fails it.
    #[abe_events::test]
    async fn a_negative_amount_is_a_dead_letter(bus: TestBus) {
        let bus = bus.handlers(handlers![charge]).start().await;
        bus.publish(OrderCreated { order_id: 1, amount: -1.0 }).await;
        bus.settled().await;
        let letters = bus.dead_letters().await;
        assert_eq!((letters.len(), letters[0].attempts, letters[0].reason()), (1, 1, "a negative amount"));
    }
}
