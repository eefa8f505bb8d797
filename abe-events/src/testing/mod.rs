//! The test kit: the production pipeline on the memory broker, with paused time.
//!
//! ```
//! use abe_events::testing::TestBus;
//! use abe_events::{Context, Result, event, handlers, subscribe};
//!
//! #[event(topic = "order.created", key = user_id)]
//! struct OrderCreated { user_id: u64, amount: f64 }
//!
//! #[event(topic = "review.requested")]
//! struct ReviewRequested { user_id: u64 }
//!
//! #[subscribe(filter = |order| order.amount > 100.0)]
//! async fn review(order: &OrderCreated, ctx: &Context) -> Result<()> {
//!     ctx.publish(ReviewRequested { user_id: order.user_id }).await?;
//!     Ok(())
//! }
//!
//! // With `#[abe_events::test]` above it this is a test; here it is run by hand.
//! async fn large_orders_are_reviewed(bus: TestBus) {
//!     let bus = bus.handlers(handlers![review]).start().await;
//!     bus.publish(OrderCreated { user_id: 7, amount: 250.0 }).await;
//!     bus.publish(OrderCreated { user_id: 8, amount: 20.0 }).await;
//!     bus.settled().await;
//!     assert_eq!(bus.published::<ReviewRequested>().len(), 1);
//!     assert_eq!(bus.handled("review"), 1);
//! }
//! # abe_events::testing::run_test("large_orders_are_reviewed", large_orders_are_reviewed);
//! ```

mod bus;
mod run;
mod script;
mod tap;

pub use self::bus::{Bus, TestBus};
pub use self::run::run_test;
