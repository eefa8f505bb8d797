//! How a broker is opened.

use std::time::Duration;

use super::RedisBroker;
use super::url::RedisUrl;
use crate::error::Result;

/// How a [`RedisBroker`] is opened.
///
/// ```no_run
/// # async fn open() -> abe_events::Result<()> {
/// use abe_events::broker::redis::RedisBroker;
///
/// let broker = RedisBroker::builder("redis://shop:secret@localhost/0?prefix=shop")?.open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RedisBrokerBuilder {
    pub(super) url: RedisUrl,
}

impl RedisBrokerBuilder {
    pub(super) fn new(url: &str) -> Result<Self> {
        Ok(Self { url: RedisUrl::parse(url)? })
    }

    /// How long every call may wait for the server. Default 5 s; what was asked then has an unknown outcome.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.url.timeout = time.max(Duration::from_millis(1));
        self
    }

    /// Connects, and looks at how the server keeps what it is given: what that means is logged as a warning, and declared in
    /// the [capabilities](crate::broker::Capabilities::durability).
    ///
    /// # Errors
    ///
    /// [`Broker`](crate::ErrorKind::Broker) when the server cannot be reached or refuses what is needed;
    /// [`Config`](crate::ErrorKind::Config) for a server that would lose messages or is part of a cluster, naming the cure.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn open(self) -> Result<RedisBroker> {
        RedisBroker::open_with(self).await
    }
}
