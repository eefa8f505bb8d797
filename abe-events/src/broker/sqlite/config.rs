//! Where the file is, and how it is opened.

use std::path::PathBuf;
use std::time::Duration;

use super::SqliteBroker;
use crate::error::Result;

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// When the disk says it has it: what was published survives a power failure, as far as the disk is honest.
    #[default]
    Full,
    /// When the operating system has it: what was published survives the end of the process, `kill -9` included. A power
    /// failure may undo the last commits; the file stays whole.
    Normal,
}

/// How a [`SqliteBroker`] is opened.
///
/// ```no_run
/// use abe_events::broker::sqlite::{SqliteBroker, Synchronous};
///
/// let broker = SqliteBroker::builder("orders.db").synchronous(Synchronous::Normal).open()?;
/// # Ok::<(), abe_events::Error>(())
/// ```
#[derive(Clone)]
pub struct SqliteBrokerBuilder {
    pub(super) path: PathBuf,
    pub(super) synchronous: Synchronous,
    pub(super) busy_timeout: Duration,
}

// A path may tell what must not reach a log.
impl std::fmt::Debug for SqliteBrokerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteBrokerBuilder")
            .field("synchronous", &self.synchronous)
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}

impl SqliteBrokerBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, synchronous: Synchronous::default(), busy_timeout: Duration::from_secs(5) }
    }

    /// When a commit counts as done. Default [`Synchronous::Full`].
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long a transaction waits for another process's. Default 5 s; then what was asked fails with
    /// [`NotStored`](crate::ErrorKind::NotStored), and may be asked again.
    #[must_use]
    pub fn busy_timeout(mut self, time: Duration) -> Self {
        self.busy_timeout = time;
        self
    }

    /// Opens the file, or makes it, readable and writable by its owner only, and brings its tables up to date. Blocks for
    /// a few milliseconds.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for a path that is none, [`Broker`](crate::ErrorKind::Broker) for a file that
    /// cannot be opened or is no database, [`Unsupported`](crate::ErrorKind::Unsupported) for tables of a newer version of
    /// abe-events or a SQLite library with known faults.
    pub fn open(self) -> Result<SqliteBroker> {
        SqliteBroker::open_with(&self)
    }
}
