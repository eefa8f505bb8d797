//! A lane: one of the fixed number of tasks that run a subscription's handler.
//!
//! [`LaneFeed`] is the part of it that knows no user type: it receives, settles in batches, keeps time and counts. It
//! spawns nothing and allocates nothing per message.

mod feed;
mod fetch;
mod hand_on;
mod renewal;
mod settle;
mod suspect;
mod tally;
mod transaction;
mod verdict;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use self::feed::LaneFeed;
pub(crate) use self::suspect::Gate;
use super::subscription::Subscription;

/// Runs a lane until the runtime drains, then settles and releases what is left.
pub(crate) async fn run(subscription: Arc<Subscription>, lane: u32) {
    let mut feed = LaneFeed::new(&subscription, lane);
    loop {
        let ended = AssertUnwindSafe(subscription.worker.run(&mut feed)).catch_unwind().await;
        match ended {
            Ok(()) => break,
            // User code is guarded inside the worker; this is a fault of ours, and must not end the subscription.
            Err(panic) => {
                tracing::error!(handler = subscription.name(), lane, panic = crate::panics::text_of(&*panic), "lane failed, and goes on");
                feed.reset();
                if subscription.shutdown.is_last_start() {
                    break;
                }
            }
        }
    }
    feed.finish().await;
}
