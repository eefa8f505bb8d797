//! From declarations to running handlers: [`start`], [`Runtime`] and what can be asked of it.

mod builder;
mod dead_letters;
mod handle;
mod lane;
mod launch;
mod monitor;
mod observer;
mod shutdown;
#[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), path = "no_store.rs")]
mod store;
mod subscription;
mod watchdog;

pub use self::builder::RuntimeBuilder;
pub use self::dead_letters::DeadLetterDesk;
pub use self::handle::Runtime;
pub use self::monitor::{Monitor, OutboxMonitor, SubscriptionMonitor, TopicMonitor};
#[cfg(feature = "testing")]
pub(crate) use self::observer::Observer;
pub use self::shutdown::{RuntimeState, Stopped};
pub use crate::broker::{DeadLetter, DeadLetterFilter};
use crate::error::{Error, Result};
pub use crate::registry::{Finding, HandlerSummary, Report, Severity};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use crate::store::{EventLog, Fate, LogFilter, LogStatus, LoggedEvent};

/// Starts everything: reads `config.yaml` and the environment, takes the handlers found at link time, connects,
/// subscribes, and runs.
///
/// The same as [`Runtime::builder`]`().start()`, which also takes state, chosen handlers and settings.
///
/// # Errors
///
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for a wrong configuration, [`ErrorKind::Start`](crate::ErrorKind::Start)
/// with every finding, its source line and its cure, or the broker's own error.
pub async fn start() -> Result<Runtime> {
    Runtime::builder().start().await
}

/// Judges the handlers and events linked into this program, without a broker and without state: for a test.
///
/// # Errors
///
/// As [`start`], for everything that can be seen without a broker.
pub fn check() -> Result<Report, Error> {
    Runtime::builder().check()
}

/// The handlers and events linked into this program, sound or not; for people.
pub fn describe() -> String {
    Runtime::builder().report().map_or_else(|error| error.to_string(), |report| report.to_string())
}
