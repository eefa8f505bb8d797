//! Where the server is, and how it is used.

use std::time::Duration;

use super::PostgresBroker;
use crate::error::Result;
use crate::sql::postgres_url::{PostgresUrl, number, on_or_off, one_of};

/// The parameters of a URL that only the broker has.
pub(crate) const OWN: [&str; 4] = ["acks", "notify", "poll_ms", "timeout"];

/// When an acknowledgement counts as carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Acks {
    /// When it is on disk.
    #[default]
    Durable,
    /// When the server has it in memory. A crash of the server may undo the acknowledgements of its last moments (three times
    /// `wal_writer_delay`, 0.6 s by default), and those messages are delivered again. Nothing is lost, and all other
    /// verdicts wait for the disk as always.
    Relaxed,
}

/// How a [`PostgresBroker`] is opened.
///
/// ```no_run
/// # async fn open() -> abe_events::Result<()> {
/// use abe_events::broker::postgres::{Acks, PostgresBroker};
///
/// let broker = PostgresBroker::builder("postgres://shop@localhost/shop?schema=shop_events")?.acks(Acks::Relaxed).open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresBrokerBuilder {
    pub(super) url: PostgresUrl,
    pub(super) acks: Acks,
    pub(super) notify: bool,
    pub(super) poll: Option<Duration>,
    pub(super) timeout: Duration,
}

impl PostgresBrokerBuilder {
    pub(super) fn new(url: &str) -> Result<Self> {
        let mut url = PostgresUrl::parse(url, &OWN)?;
        let own = std::mem::take(&mut url.own);
        let mut builder = Self { notify: !url.pooler, url, acks: Acks::default(), poll: None, timeout: Duration::from_secs(30) };
        for (name, value) in own {
            match name {
                "acks" if one_of(name, &value, &["durable", "relaxed"])? == 1 => builder.acks = Acks::Relaxed,
                "notify" => builder.notify = on_or_off(name, &value)? && builder.notify,
                "poll_ms" => builder.poll = Some(Duration::from_millis(number(name, &value, 1..=60_000)?.into())),
                "timeout" => builder.timeout = Duration::from_secs(number(name, &value, 1..=3_600)?.into()),
                _ => {}
            }
        }
        Ok(builder)
    }

    /// When an acknowledgement counts as carried out. Default [`Acks::Durable`].
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// How long a statement may take. Default 30 s; then the connection is given up, and what was asked has an unknown outcome.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time.max(Duration::from_millis(1));
        self
    }

    /// How often it is looked for what other processes have published, where nothing tells of it. Default 1 s, or 200 ms
    /// without notifications; each pause is up to a quarter shorter or longer.
    #[must_use]
    pub fn poll(mut self, time: Duration) -> Self {
        self.poll = Some(time.max(Duration::from_millis(1)));
        self
    }

    pub(super) fn poll_time(&self) -> Duration {
        self.poll.unwrap_or(Duration::from_millis(if self.notify { 1_000 } else { 200 }))
    }

    /// Connects, and brings the tables up to date.
    ///
    /// # Errors
    ///
    /// [`Broker`](crate::ErrorKind::Broker) when the server cannot be reached or refuses what is needed;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for tables of a newer version of abe-events, tables that are missing while
    /// `migrate=off`, or a database that does not keep text as UTF-8.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn open(self) -> Result<PostgresBroker> {
        PostgresBroker::open_with(self).await
    }
}
