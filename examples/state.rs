//! State: what handlers work with, by type: `&S`, `State<S>`, an `Option`, and an extractor of one's own.
//!
//! ```sh
//! cargo run --example state
//! ```
//!
//! It prints:
//!
//! ```text
//! cannot start, 2 things to fix:
//!   - handler `tax`: state `state::TaxRate` was not given; call `.state(..)` with a `state::TaxRate` on `Runtime::builder()` (…)
//!   - handler `tax`: state `state::Taxed` was not given; call `.state(..)` with a `state::Taxed` on `Runtime::builder()` (…)
//! order 1 of acme: tax 3.80, no discounts today
//! dead letter: no header `tenant`
//! taxed 1 orders
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod support;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use abe_events::broker::DeadLetterFilter;
use abe_events::handler::{Extractor, Meta, Resolver};
use abe_events::{Error, Result, Runtime, State, event, subscribe};

use self::support::settled;

/// A customer placed an order.
#[event(topic = "order.created")]
struct OrderCreated {
    order_id: u64,
    amount: f64,
}

/// A setting; handlers borrow it.
struct TaxRate(f64);

/// A counter; handlers share it with the program.
#[derive(Default)]
struct Taxed(AtomicU32);

/// Not every program has discounts.
struct Discounts;

/// Who an order belongs to, from a header: an extractor of our own.
struct Tenant(String);

impl Extractor for Tenant {
    /// What is looked up once, at start: here nothing.
    type Prepared = ();

    fn prepare(_: &mut Resolver<'_>) -> Option<()> {
        Some(())
    }

    fn extract(_: &(), meta: Meta<'_>) -> Result<Self> {
        let tenant = meta.message().headers().get("tenant").ok_or_else(|| Error::permanent("no header `tenant`"))?;
        Ok(Self(tenant.to_owned()))
    }
}

#[subscribe(name = "tax")]
async fn tax(order: &OrderCreated, rate: &TaxRate, State(taxed): State<Taxed>, discounts: Option<State<Discounts>>, tenant: Tenant) {
    taxed.0.fetch_add(1, Ordering::Relaxed);
    let discounts = if discounts.is_some() { "with discounts" } else { "no discounts today" };
    println!("order {} of {}: tax {:.2}, {discounts}", order.order_id, tenant.0, order.amount * rate.0);
}

#[tokio::main]
async fn main() -> Result<()> {
    let refused = Runtime::builder().start().await;
    if let Err(error) = refused {
        println!("{error}");
    }

    let taxed = Arc::new(Taxed::default());
    let runtime = Runtime::builder().state(TaxRate(0.19)).shared_state(taxed.clone()).start().await?;
    runtime.publishing(OrderCreated { order_id: 1, amount: 20.0 }).header("tenant", "acme").send().await?;
    runtime.publish(OrderCreated { order_id: 2, amount: 30.0 }).await?;
    settled(&runtime).await;
    for letter in runtime.dead_letters().list(&DeadLetterFilter::default()).await? {
        println!("dead letter: {}", letter.reason());
    }
    runtime.stop().await;
    println!("taxed {} orders", taxed.0.load(Ordering::Relaxed));
    Ok(())
}
