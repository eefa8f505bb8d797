//! Retries: backoff, errors that are permanent, a handler's own delay, and what becomes a dead letter.
//!
//! ```sh
//! cargo run --example retries
//! ```
//!
//! It prints:
//!
//! ```text
//! flaky: attempt 1 of mail 1
//! flaky: attempt 2 of mail 1
//! flaky: attempt 3 of mail 1
//! mail 1 was sent
//! flaky: attempt 1 of mail 2
//! flaky: attempt 1 of mail 3
//! flaky: attempt 2 of mail 3
//! flaky: attempt 3 of mail 3
//! mail.requested in `send` after 1 attempts: permanent: no such address
//! mail.requested in `send` after 3 attempts: error: connection refused
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod support;
use std::fmt;
use std::time::Duration;

use abe_events::broker::DeadLetterFilter;
use abe_events::{Classify, Context, Outcome, Result, event, runtime, subscribe};

use self::support::settled;

/// Somebody wants a mail to be sent.
#[event(topic = "mail.requested")]
struct MailRequested {
    id: u32,
}

/// An error type of the program's own says which errors are worth another attempt.
#[derive(Debug)]
enum MailError {
    Refused,
    NoSuchAddress,
}

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::NoSuchAddress => "no such address",
        })
    }
}

impl Classify for MailError {
    fn is_permanent(&self) -> bool {
        matches!(self, Self::NoSuchAddress)
    }
}

/// Waits 10 ms before the second attempt, then twice that each time, up to 50 ms, and gives up after the third.
#[subscribe(name = "send", retry(attempts = 3, backoff = exponential, min = "10ms", max = "50ms", jitter = false))]
async fn send(mail: &MailRequested, ctx: &Context) -> Result<Outcome, MailError> {
    println!("flaky: attempt {} of mail {}", ctx.attempt(), mail.id);
    match (mail.id, ctx.attempt()) {
        // An error: the policy decides when to try again.
        (1, 1) | (3, _) => Err(MailError::Refused),
        // The mail server said when: not an error, and yet another attempt.
        (1, 2) => Ok(Outcome::retry_after(Duration::from_millis(20)).because("the server is busy")),
        // Permanent: a dead letter at once.
        (2, _) => Err(MailError::NoSuchAddress),
        _ => {
            println!("mail {} was sent", mail.id);
            Ok(Outcome::ack())
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = runtime::start().await?;
    for id in 1..=3 {
        runtime.publish(MailRequested { id }).await?;
        settled(&runtime).await;
    }
    for letter in runtime.dead_letters().list(&DeadLetterFilter::default()).await? {
        let kind = letter.failures.last().map_or("", |failure| failure.kind.as_str());
        let (topic, name) = (letter.message.topic(), &letter.subscription);
        println!("{topic} in `{name}` after {} attempts: {kind}: {}", letter.attempts, letter.reason());
    }
    runtime.stop().await;
    Ok(())
}
