//! Order: eight steps at once, one at a time per account, retries included; a failing account delays no other.
//!
//! ```sh
//! cargo run --example ordered
//! ```
//!
//! It prints:
//!
//! ```text
//! account 1: 1, 2, 3, 4, 5
//! account 2: 1, 2, 3, 4, 5
//! account 3: 1, 2, 3, 4, 5
//! account 4: 1, 2, 3, 4, 5
//! account 5: 1, 2, 3, 4, 5
//! account 6: 1, 2, 3, 4, 5
//! account 7: 1, 2, 3, 4, 5
//! account 8: 1, 2, 3, 4, 5
//! up to 8 at once, the slow account was last: true
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod support;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use abe_events::{Context, Error, Result, Runtime, State, event, subscribe};
use tokio::sync::Barrier;

use self::support::settled;

const ACCOUNTS: u64 = 8;
const STEPS: u32 = 5;

/// Something happened to an account. `key` is what order follows.
#[event(topic = "account.changed", key = account)]
struct AccountChanged {
    account: u64,
    step: u32,
}

/// What the handler saw.
struct Book {
    steps: Mutex<BTreeMap<u64, Vec<u32>>>,
    /// The account of each step that ended, in the order they did.
    ended: Mutex<Vec<u64>>,
    /// Opens when eight handlers have come to it, which only happens if eight run at once.
    all_at_once: Barrier,
}

#[subscribe(name = "book", ordered, concurrency = 8, retry(attempts = 4, min = "20ms", max = "20ms"))]
async fn book(change: &AccountChanged, State(book): State<Book>, ctx: &Context) -> Result<()> {
    if change.step == 1 && ctx.attempt() == 1 {
        book.all_at_once.wait().await;
    }
    // Account 1 fails three times at its second step. Its later steps wait for it, other accounts do not.
    if (change.account, change.step) == (1, 2) && ctx.attempt() < 4 {
        return Err(Error::msg("not now"));
    }
    book.steps.lock().unwrap_or_else(PoisonError::into_inner).entry(change.account).or_default().push(change.step);
    book.ended.lock().unwrap_or_else(PoisonError::into_inner).push(change.account);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let state = Book { steps: Mutex::default(), ended: Mutex::default(), all_at_once: Barrier::new(8) };
    let book = Arc::new(state);
    let runtime = Runtime::builder().shared_state(book.clone()).start().await?;
    for step in 1..=STEPS {
        runtime.publish_all((1..=ACCOUNTS).map(|account| AccountChanged { account, step })).await?;
    }
    settled(&runtime).await;
    runtime.stop().await;
    for (account, steps) in &*book.steps.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("account {account}: {}", steps.iter().map(u32::to_string).collect::<Vec<_>>().join(", "));
    }
    let last = book.ended.lock().unwrap_or_else(PoisonError::into_inner).last().copied();
    println!("up to 8 at once, the slow account was last: {}", last == Some(1));
    Ok(())
}
