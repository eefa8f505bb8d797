//! What is done from time to time: counters put right, and lines that nobody told to go on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::db::Db;
use super::line::Lines;
use super::live::Lives;

/// How often, at most. What takes long is done less often, so that it takes a twentieth of the time.
const PAUSE: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;

/// How often the counters are read in vain, because something changed meanwhile, before they are taken as they are.
const TRIES: u32 = 5;

/// Keeps house for a broker, as long as it is open.
pub(super) struct Keeper {
    pub(super) db: Db,
    pub(super) lives: Arc<Lives>,
    pub(super) lines: Lines,
    /// The subscriptions of this process that keep order.
    pub(super) ordered: Arc<Mutex<BTreeSet<i32>>>,
}

impl Keeper {
    pub(super) async fn run(self, closed: CancellationToken) {
        let _: Option<()> = closed.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        let (mut pause, mut tries) = (PAUSE, 0);
        loop {
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            let began = Instant::now();
            let lives = self.lives.all();
            if !lives.is_empty() {
                match self.lives.count(&self.db, &lives, tries >= TRIES).await {
                    Ok(true) => tries = 0,
                    Ok(false) => tries += 1,
                    Err(fault) => tracing::debug!(error = %fault.failed(), "what waits cannot be counted"),
                }
            }
            let ordered: Vec<i32> = self.ordered.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
            for subscription in ordered {
                if self.lines.sweep(&self.db, subscription).await {
                    self.lives.wake(subscription);
                }
            }
            pause = PAUSE.max(began.elapsed() * SHARE);
        }
    }
}
