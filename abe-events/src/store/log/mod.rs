//! The event log: every event that was published, and what became of it in each subscription.
//!
//! Written beside the broker, whichever it is: an event before it is published, its fates before they are settled. A crash
//! in between leaves a log that says less than happened, and never more.

mod broker;

use std::sync::Weak;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

pub(crate) use self::broker::LoggedBroker;
use super::stored::Row;
use super::{Database, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Id, Message};
use crate::topic::Name;

/// How many events one question answers, unless it says otherwise; and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;

/// Where an event stands, or a subscription with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStatus {
    /// Not handled yet, or waiting for its next attempt.
    Pending,
    /// Handled, filtered or recognised as a duplicate: by every subscription that took it.
    Processed,
    /// Given up by at least one subscription; its dead letter is with the broker.
    Failed,
}

impl LogStatus {
    /// As it is stored.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Processed => 1,
            Self::Failed => 2,
        }
    }

    pub(crate) fn of(number: i16) -> Self {
        match number {
            1 => Self::Processed,
            2 => Self::Failed,
            _ => Self::Pending,
        }
    }
}

/// An event of the log.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// Its number: grows with time, has gaps. What [`LogFilter::after`] takes.
    pub number: u64,
    /// The message as it was published.
    pub message: Message,
    /// Where it stands in all.
    pub status: LogStatus,
    /// When it was written down, by the database's clock.
    pub stored: SystemTime,
    /// How many subscriptions took it. `None` as long as that is not known: it is being published, its publisher died
    /// meanwhile or keeps no log, or it went out in one call with events of other topics. Its status then goes by those
    /// subscriptions that said something.
    pub deliveries: Option<u64>,
    /// What became of it, by subscription, as far as any said something.
    pub fates: Vec<Fate>,
}

/// What became of an event in a subscription.
#[derive(Debug, Clone)]
pub struct Fate {
    /// The subscription's group.
    pub group: Name,
    /// The subscription's name.
    pub subscription: Name,
    /// Where it stands.
    pub status: LogStatus,
    /// How many attempts failed.
    pub retries: u32,
    /// What the last one that failed said; kept when a later one succeeds.
    pub error: Option<String>,
    /// When it last changed.
    pub at: SystemTime,
}

/// Which events are meant; all conditions hold together, and none means all.
///
/// ```
/// use abe_events::runtime::{LogFilter, LogStatus};
///
/// let failed = LogFilter { topic: Some("order.created".into()), status: Some(LogStatus::Failed), ..LogFilter::default() };
/// assert_eq!(failed.limit, 100);
/// ```
#[derive(Debug, Clone)]
pub struct LogFilter {
    /// The one of this id.
    pub id: Option<Id>,
    /// Those of this topic.
    pub topic: Option<String>,
    /// Those that stand so.
    pub status: Option<LogStatus>,
    /// Those of this chain.
    pub correlation: Option<Id>,
    /// Those written down then or later.
    pub since: Option<SystemTime>,
    /// Those written down earlier.
    pub until: Option<SystemTime>,
    /// Those with a greater number, to go on where an answer ended.
    pub after: u64,
    /// At most so many, oldest first: 1 to 10,000, default 100.
    pub limit: usize,
}

impl Default for LogFilter {
    fn default() -> Self {
        Self { id: None, topic: None, status: None, correlation: None, since: None, until: None, after: 0, limit: LIMIT }
    }
}

/// The event log of a runtime; from [`Runtime::event_log`](crate::Runtime::event_log).
#[derive(Debug)]
pub struct EventLog<'a> {
    database: &'a dyn Database,
}

impl<'a> EventLog<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { database: &*store.database }
    }

    /// Those meant, oldest first.
    ///
    /// # Errors
    ///
    /// [`NotStored`](ErrorKind::NotStored) or [`Timeout`](ErrorKind::Timeout) when the database does not answer;
    /// [`Decode`](ErrorKind::Decode) for a row that somebody else wrote and that is no message.
    pub async fn list(&self, filter: &LogFilter) -> Result<Vec<LoggedEvent>> {
        let limit = filter.limit.clamp(1, LIMIT_MAX);
        self.database.log_find(LogFilter { limit, ..filter.clone() }).await
    }

    /// The one of an id, if it is in the log.
    ///
    /// # Errors
    ///
    /// As [`list`](EventLog::list).
    pub async fn get(&self, id: &Id) -> Result<Option<LoggedEvent>> {
        Ok(self.list(&LogFilter { id: Some(id.clone()), limit: 1, ..LogFilter::default() }).await?.pop())
    }

    /// Removes what was written down longer ago, whatever its status, and answers how many events that were. The runtime
    /// does so by itself, for what is older than the time given with
    /// [`RuntimeBuilder::event_log`](crate::RuntimeBuilder::event_log).
    ///
    /// # Errors
    ///
    /// As [`list`](EventLog::list).
    ///
    /// # Cancel safety
    ///
    /// Dropped, a part is removed: call it again.
    pub async fn remove_older(&self, than: Duration) -> Result<u64> {
        let mut total = 0;
        loop {
            let count = self.database.log_prune(than, PRUNE_BATCH).await?;
            total += count;
            if count < u64::from(PRUNE_BATCH) {
                return Ok(total);
            }
        }
    }
}

/// How many events are removed in one transaction.
const PRUNE_BATCH: u32 = 500;

/// An event, as it is written down.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) row: Row,
    pub(crate) correlation: String,
}

impl NewEvent {
    pub(crate) fn of(message: &Message, delay: Duration) -> Result<Self> {
        Ok(Self { row: Row::of(message, delay)?, correlation: message.correlation_id().to_string() })
    }
}

/// What became of a message, as it is written down.
#[derive(Debug, Clone)]
pub(crate) struct NewFate {
    pub(crate) id: String,
    pub(crate) status: LogStatus,
    pub(crate) retries: u32,
    pub(crate) error: Option<String>,
}

/// How many deliveries were stored of messages that were published.
#[derive(Debug, Clone)]
pub(crate) struct NewCount {
    pub(crate) id: String,
    pub(crate) deliveries: i64,
}

/// What a database does for the log. Part of [`Database`].
pub(crate) trait Records {
    /// Writes events down that are not there yet, durably.
    fn log_events(&self, events: Vec<NewEvent>) -> BoxFuture<'_, Result<()>>;

    /// Notes how many subscriptions took them. Need not survive a power failure.
    fn log_counts(&self, counts: Vec<NewCount>) -> BoxFuture<'_, Result<()>>;

    /// Removes events that were not published after all.
    fn log_withdraw(&self, ids: Vec<String>) -> BoxFuture<'_, Result<()>>;

    /// Notes fates of a subscription; answers whether all their events were there. Need not survive a power failure.
    fn log_fates(&self, subscriber: i64, fates: Vec<NewFate>) -> BoxFuture<'_, Result<bool>>;

    /// What is asked for.
    fn log_find(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<LoggedEvent>>>;

    /// Removes events that were written down longer ago, at most so many, and answers how many.
    fn log_prune(&self, older: Duration, max: u32) -> BoxFuture<'_, Result<u64>>;
}

/// Removes what is too old, now and then, as long as the store is open.
pub(crate) async fn keep_short(database: Weak<dyn Database>, keep: Duration) {
    /// How often it is looked.
    const LOOK: Duration = Duration::from_secs(60);
    while let Some(database) = database.upgrade() {
        let log = EventLog { database: &*database };
        match log.remove_older(keep).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "events were removed from the log by their age"),
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => tracing::warn!(%error, "old events were not removed from the log; tried again"),
        }
        drop(database);
        tokio::time::sleep(LOOK.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
    }
}

/// A logged event from its columns.
pub(super) fn logged(number: i64, row: &Row, status: i16, stored_ms: i64, deliveries: Option<i64>) -> Result<LoggedEvent> {
    Ok(LoggedEvent {
        number: number.cast_unsigned(),
        message: row.message()?,
        status: LogStatus::of(status),
        stored: super::time_of(stored_ms),
        deliveries: deliveries.and_then(|count| u64::try_from(count).ok()),
        fates: Vec::new(),
    })
}

/// A fate from its columns.
pub(super) fn fate((group, name): (String, String), status: i16, retries: i32, error: Option<String>, at_ms: i64) -> Result<Fate> {
    let name_of = |text: &str| Name::new(text).map_err(|error| Error::new(ErrorKind::Decode, error.to_string()));
    Ok(Fate {
        group: name_of(&group)?,
        subscription: name_of(&name)?,
        status: LogStatus::of(status),
        retries: u32::try_from(retries).unwrap_or_default(),
        error,
        at: super::time_of(at_ms),
    })
}
