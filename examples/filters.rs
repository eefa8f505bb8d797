//! Filters: a closure, a function, and rules on headers. What is filtered is acked and counted, never called.
//!
//! ```sh
//! cargo run --example filters
//! ```
//!
//! It prints:
//!
//! ```text
//! large: order 2 over 250
//! urgent: order 3
//! from the shop: order 3
//! large: 1 handled, 2 filtered
//! urgent: 1 handled, 2 filtered
//! from_the_shop: 1 handled, 2 filtered
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod support;

use abe_events::{Result, event, runtime, subscribe};

use self::support::settled;

/// A customer placed an order.
#[event(topic = "order.created")]
struct OrderCreated {
    order_id: u64,
    amount: f64,
    note: String,
}

/// A closure over the typed event; a misspelt field is a compile error at that field.
#[subscribe(name = "large", filter = |order| order.amount > 100.0)]
async fn large(order: &OrderCreated) {
    println!("large: order {} over {}", order.order_id, order.amount);
}

/// A function, for what deserves a name and a test of its own.
#[subscribe(name = "urgent", filter = is_urgent)]
async fn urgent(order: &OrderCreated) {
    println!("urgent: order {}", order.order_id);
}

fn is_urgent(order: &OrderCreated) -> bool {
    order.note.to_lowercase().contains("urgent")
}

/// Rules on headers are checked before anything is decoded.
#[subscribe(name = "from_the_shop", headers("channel" = "shop", !"test"))]
async fn from_the_shop(order: &OrderCreated) {
    println!("from the shop: order {}", order.order_id);
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = runtime::start().await?;
    let order = |order_id, amount, note: &str| OrderCreated { order_id, amount, note: note.into() };
    runtime.publish(order(1, 20.0, "")).await?;
    settled(&runtime).await;
    runtime.publishing(order(2, 250.0, "")).header("channel", "shop").header("test", "yes").send().await?;
    settled(&runtime).await;
    runtime.publishing(order(3, 30.0, "URGENT")).header("channel", "shop").send().await?;
    settled(&runtime).await;
    runtime.stop().await;
    for name in ["large", "urgent", "from_the_shop"] {
        if let Some(numbers) = runtime.monitor().subscription(name) {
            println!("{name}: {} handled, {} filtered", numbers.succeeded, numbers.filtered);
        }
    }
    Ok(())
}
