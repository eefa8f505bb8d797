//! A shop: sign-ups, orders, payments, invoices, and a bank that fails.
//!
//! ```sh
//! cargo run --example orders
//! cargo run --example orders -- crash     # publishes, and dies at once; start it again, and nothing is lost
//! ```
//!
//! The events are kept in `orders.db`, in the folder where it is started; `ABE_EVENT_URL=memory://` keeps them in memory.
//! `events.rs` has the contracts, `handlers.rs` the handlers, `services.rs` what they work with; here is what happens.
//! It prints the following, the upper part in any order:
//!
//! ```text
//! welcome   UserRegistered { user_id: 7, name: "Ada", email: [sensitive] }
//! welcome   UserRegistered { user_id: 13, name: "Bob", email: [sensitive] }
//! pack      order 1: 2 x teapot
//! pack      order 2: 2 x kettle
//! pack      order 3: 2 x samovar
//! pack      order 4: 2 x cups
//! charge    customer 7: 19.99
//! charge    customer 7: 250.00
//! charge    customer 7: 80.00
//! consent   order 3 over 250.00, hop 1
//! invoice   3 payments, 349.99 in all
//! dead      order.created in `charge` after 3 attempts: the bank does not answer
//! replayed  1
//! charge    customer 13: 20.00
//! invoice   1 payments, 20.00 in all
//! history   customer 7: Ada signed up, order 1, order 3, order 4
//! history   customer 13: Bob signed up, order 2
//! invoices  for orders [1, 2, 3, 4]
//!
//! subscription  accepted succeeded filtered  duplic.    dead pending  failed retried       p50       p99
//! charge               5         4        0        0       1       0       3       2 …
//! consent              1         1        0        0       0       0       0       0 …
//! file                 4         4        0        0       0       0       0       0 …
//! history              7         6        0        1       0       0       0       0 …
//! invoice              4         4        0        0       0       0       0       0 …
//! pack                 4         4        0        0       0       0       0       0 …
//! review               4         1        3        0       0       0       0       0 …
//! welcome              3         2        0        1       0       0       0       0 …
//! total               32        26        3        2       1       0       3       2
//! published 16, of which nobody subscribed to 0; up …
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod events;
mod handlers;
mod services;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::DeadLetterFilter;
use abe_events::{Error, Message, Payload, Result, Runtime, Topic};

use self::events::{Item, OrderCreated, UserRegistered};
use self::services::{Bank, History, UNLUCKY};
use self::support::settled;

#[tokio::main]
async fn main() -> Result<()> {
    // `runtime::start()` is enough for a program without state, configured by `config.yaml` or the environment. The
    // handlers were found when the program was linked.
    let url = std::env::var("ABE_EVENT_URL").unwrap_or_else(|_| "sqlite://orders.db".into());
    let (bank, history) = (Arc::new(Bank::default()), Arc::new(History::default()));
    let builder = Runtime::builder().url(url).group("shop").shared_state(bank.clone()).shared_state(history.clone());
    // What a dead process had in hand is handed out again when its lease ends: sooner than the usual 30 s, to be watched.
    let runtime = builder.lease(Duration::from_secs(3)).start().await?;
    let left = runtime.monitor().total().pending;
    if left > 0 {
        println!("left      {left} deliveries of an earlier run");
    }

    sign_up(&runtime).await?;
    order(&runtime).await?;
    if std::env::args().nth(1).as_deref() == Some("crash") {
        println!("crash     6 events are published, and whatever was not handled by now is left");
        std::process::abort();
    }
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
    let ada = || UserRegistered { user_id: 7, name: "Ada".into(), email: Some("ada@example.com".into()) };
    let id = runtime.publish(ada()).await?;
    // The answer got lost on the way, so the sign-up service says it again, with the same id.
    runtime.publishing(ada()).id(id).send().await?;
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
    runtime.publish(order(4, 7, 80.0, "cups")).await?;
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
