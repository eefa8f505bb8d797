//! Taking turns with other writers of the file.
//!
//! SQLite's lock is nobody's in particular: who asks while it is held sleeps for a while, up to a tenth of a second, and who
//! just gave it back finds it free. Of processes that commit without a pause one would write and the others stand still for
//! seconds, until their leases end. So whoever waits looks often, and whoever wrote leaves the others a gap they cannot miss.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::error::Fault;

/// How long is slept between two looks at a lock that is held, in microseconds.
const LOOK_US: std::ops::Range<u64> = 200..600;

/// The same, once it has been held for longer than a transaction takes.
const LOOK_LATER_US: std::ops::Range<u64> = 2_000..5_000;

/// How long a transaction of others takes at most, usually.
const USUAL: Duration = Duration::from_millis(100);

/// How long the file is left to the others after a transaction: longer than any of them sleeps.
const GAP: Duration = Duration::from_micros(800);

/// How long after they last wrote others are taken to want to write again.
const CROWDED: Duration = Duration::from_millis(100);

/// A writer's turns.
#[derive(Debug)]
pub(super) struct Turns {
    patience: Duration,
    ended: Option<Instant>,
    others_wrote: Option<Instant>,
}

impl Turns {
    /// Of a writer that waits for the lock for so long.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, ended: None, others_wrote: None }
    }

    /// Another connection has committed.
    pub(super) fn others_wrote(&mut self) {
        self.others_wrote = Some(Instant::now());
    }

    /// The transaction is over.
    pub(super) fn ended(&mut self) {
        self.ended = Some(Instant::now());
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    ///
    /// That the file is locked, after the whole time; any other at once.
    pub(super) fn begin(&self, connection: &Connection) -> Result<(), Fault> {
        std::thread::sleep(self.gap());
        // Here it is waited for as is best among several writers; every other statement waits as SQLite does.
        connection.busy_timeout(Duration::ZERO)?;
        let begun = self.wait(connection);
        connection.busy_timeout(self.patience)?;
        begun
    }

    fn wait(&self, connection: &Connection) -> Result<(), Fault> {
        let began = Instant::now();
        loop {
            match connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
                Err(fault) if is_locked(&fault) && began.elapsed() < self.patience => {
                    let look = if began.elapsed() < USUAL { LOOK_US } else { LOOK_LATER_US };
                    std::thread::sleep(Duration::from_micros(fastrand::u64(look)));
                }
                begun => return begun.map(|_| ()),
            }
        }
    }

    /// What is left of the time that belongs to others.
    fn gap(&self) -> Duration {
        let crowded = self.others_wrote.is_some_and(|at| at.elapsed() < CROWDED);
        let ended = self.ended.filter(|_| crowded);
        ended.map_or(Duration::ZERO, |ended| GAP.saturating_sub(ended.elapsed()))
    }
}

fn is_locked(fault: &Fault) -> bool {
    matches!(fault.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
