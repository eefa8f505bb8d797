#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
//! Generated code gives no lint a reason to speak.

use abe_events::{Context, Result, event, subscribe};

/// A tick.
#[event(topic = "tick", key = 0)]
#[derive(Debug, Clone)]
pub struct Tick(pub u8);

/// Handles.
///
/// # Errors
///
/// Never.
#[subscribe(filter = |tick| tick.0 > 0, idempotent(key = |tick| tick.0), ordered)]
pub async fn handle(tick: &Tick, context: &Context) -> Result<()> {
    context.publish(tick.clone()).await?;
    Ok(())
}

/// Handles at once.
#[subscribe]
pub fn handle_now(_tick: &Tick) {}

#[subscribe]
async fn private(_tick: &Tick) {}

fn main() {}
