//! The server's time, so that nothing is early because a program's clock is wrong.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::error::Fault;
use super::names::Names;
use super::server::{Server, millis};

/// How long an answer is relied upon; clocks drift apart.
const FRESH: Duration = Duration::from_secs(600);

/// What the server's clock said, and when it had said so at the latest.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<(u64, Instant)>>);

impl Clock {
    /// The server's time in milliseconds, or a little less.
    pub(super) async fn now(&self, server: &Server, names: &Names) -> Result<u64, Fault> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((said, at)) = known.filter(|(_, at)| at.elapsed() < FRESH) {
            return Ok(said + u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        // The time at which this is stored has passed when the answer is here.
        server.store(names.clock(), None, Bytes::new()).await?;
        let at = Instant::now();
        let stored = server.last(&names.state, names.clock()).await?.ok_or(Fault::Cut)?;
        let said = millis(SystemTime::from(stored.time));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((said, at));
        Ok(said)
    }
}
