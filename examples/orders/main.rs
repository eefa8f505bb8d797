//! A shop: sign-ups, orders, payments, invoices, and a bank that fails.
//!
//! ```sh
//! cargo run --example orders
//! ```
//!
//! `events.rs` has the contracts, `handlers.rs` the handlers, `services.rs` what they work with; here is what happens.
//! It prints the following, the upper part in any order:
//!
//! ```text
//! @OUTPUT@
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod events;
mod handlers;
mod services;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use abe_events::broker::DeadLetterFilter;
use abe_events::{Error, Message, Payload, Result, Runtime, Topic};

use self::events::{Item, OrderCreated, UserRegistered};
use self::services::{Bank, History, UNLUCKY};
use self::support::settled;

#[tokio::main]
async fn main() -> Result<()> {
    // `runtime::start()` is enough for a program without state. The handlers were found when the program was linked; what
    // carries the events is chosen by a URL in `config.yaml` or `ABE_EVENT_URL`, without one it is the memory broker.
    let (bank, history) = (Arc::new(Bank::default()), Arc::new(History::default()));
    let runtime = Runtime::builder().group("shop").shared_state(bank.clone()).shared_state(history.clone()).start().await?;

    sign_up(&runtime).await?;
    order(&runtime).await?;
    settled(&runtime).await;

    replay_what_failed(&runtime, &bank).await?;
    settled(&runtime).await;

    runtime.stop().await;
    history.print();
    let monitor = runtime.monitor();
    println!("\n{monitor}");
    // accepted = succeeded + filtered + duplicates + dead + pending, for every subscription.
    if monitor.balances() { Ok(()) } else { Err(Error::msg("messages were lost")) }
}

async fn sign_up(runtime: &Runtime) -> Result<()> {
    let ada = UserRegistered { user_id: 7, name: "Ada".into(), email: Some("ada@example.com".into()) };
    let id = runtime.publish(ada).await?;
    // The answer got lost on the way, so the sign-up service says it again, with the same id.
    let again = UserRegistered { user_id: 7, name: "Ada".into(), email: Some("ada@example.com".into()) };
    runtime.publishing(again).id(id).send().await?;
    // An old service still writes version 1: bytes of which this program knows how to make version 2.
    let old = Payload::from_bytes(r#"{"user_id":13,"name":"Bob"}"#);
    runtime.publish_message(Message::new(Topic::new("user.registered")?, 1, old)).await?;
    Ok(())
}

async fn order(runtime: &Runtime) -> Result<()> {
    let order = |order_id, user_id, amount, sku: &str| OrderCreated {
        order_id,
        user_id,
        amount,
        items: vec![Item { sku: sku.into(), quantity: 2 }],
    };
    runtime.publish(order(1, 7, 19.99, "teapot")).await?;
    runtime.publish(order(2, UNLUCKY, 20.0, "kettle")).await?;
    runtime.publish(order(3, 7, 250.0, "samovar")).await?;
    runtime.publish(order(4, 8, 80.0, "cups")).await?;
    Ok(())
}

/// Three attempts did not help: the order waits as a dead letter, with its reason, until somebody has repaired the cause.
async fn replay_what_failed(runtime: &Runtime, bank: &Bank) -> Result<()> {
    let desk = runtime.dead_letters();
    for letter in desk.list(&DeadLetterFilter::default()).await? {
        let (topic, name) = (letter.message.topic(), &letter.subscription);
        println!("dead      {topic} in `{name}` after {} attempts: {}", letter.attempts, letter.reason());
    }
    bank.repair();
    println!("replayed  {}", desk.replay(&DeadLetterFilter::default()).await?);
    Ok(())
}
