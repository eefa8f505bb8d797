//! How a broker is opened.

use std::time::Duration;

use super::NatsBroker;
use super::url::NatsUrl;
use crate::error::Result;

/// How a [`NatsBroker`] is opened.
///
/// ```no_run
/// # async fn open() -> abe_events::Result<()> {
/// use abe_events::broker::nats::NatsBroker;
///
/// let broker = NatsBroker::builder("nats://shop@localhost?stream=shop&replicas=3")?.open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NatsBrokerBuilder {
    pub(super) url: NatsUrl,
}

impl NatsBrokerBuilder {
    pub(super) fn new(url: &str) -> Result<Self> {
        Ok(Self { url: NatsUrl::parse(url)? })
    }

    /// How long every call may wait for the server. Default 5 s; what was asked then has an unknown outcome.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.url.timeout = time.max(Duration::from_millis(1));
        self
    }

    /// Connects, makes the streams that are missing, and looks at those that are there.
    ///
    /// # Errors
    ///
    /// [`Broker`](crate::ErrorKind::Broker) when no server can be reached or it refuses what is needed;
    /// [`Config`](crate::ErrorKind::Config) for a stream that is there and would lose messages, naming the cure.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn open(self) -> Result<NatsBroker> {
        NatsBroker::open_with(self).await
    }
}
