//! The one thread that talks to the file, and group commit: whatever was asked during a commit shares the next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::error::{Fault, not_stored, of_commit};
use super::lock::Turns;
use super::state::{State, Tx};
use crate::error::{Error, Result};

/// How much one transaction takes on: beyond this a longer one gains nothing and keeps other processes waiting.
const GROUP_JOBS_MAX: usize = 2_048;
const GROUP_WEIGHT_MAX: usize = 8 * 1024 * 1024;

/// How often, at most and at least, it is looked whether another process has committed.
const POLL_MS: std::ops::RangeInclusive<u64> = 10..=30;

/// Something to be done within a transaction.
pub(super) trait Work: Send {
    /// Approximate bytes it writes.
    fn weight(&self) -> usize;

    /// Does it. May be called again in another transaction after this one was undone, and begins anew then.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;

    /// After the commit, or after it failed.
    fn answer(self: Box<Self>, outcome: Result<()>);
}

/// What is asked of the writer, and by whom it is seen.
#[derive(Default)]
pub(super) struct Inbox {
    asked: Mutex<Asked>,
    more: Condvar,
    /// How many transactions wrote something.
    pub(super) commits: AtomicU64,
    /// When the thread has ended and the file is closed.
    pub(super) ended: CancellationToken,
}

#[derive(Default)]
struct Asked {
    works: VecDeque<Box<dyn Work>>,
    closed: bool,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Inbox {
    /// Asks for something; gives it back when nobody is there to do it any more.
    pub(super) fn push(&self, work: Box<dyn Work>) -> std::result::Result<(), Box<dyn Work>> {
        let mut asked = self.lock();
        if asked.closed {
            return Err(work);
        }
        asked.works.push_back(work);
        let first = asked.works.len() == 1;
        drop(asked);
        if first {
            self.more.notify_one();
        }
        Ok(())
    }

    /// Lets the writer end after what was asked before.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What shares the next transaction; `None` after the time, `Some` of nothing at the end.
    fn next(&self, wait: Duration) -> Option<Vec<Box<dyn Work>>> {
        let mut asked = self.lock();
        if asked.works.is_empty() && !asked.closed {
            asked = self.more.wait_timeout(asked, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        if asked.works.is_empty() {
            return asked.closed.then(Vec::new);
        }
        let (mut count, mut weight) = (0, 0);
        for work in asked.works.iter().take(GROUP_JOBS_MAX) {
            weight += work.weight();
            if count > 0 && weight > GROUP_WEIGHT_MAX {
                break;
            }
            count += 1;
        }
        Some(asked.works.drain(..count).collect())
    }
}

/// The thread's own.
pub(super) struct Writer {
    connection: Connection,
    state: State,
    inbox: Arc<Inbox>,
    /// When something falls due, by subscription; lanes are woken then.
    due: std::collections::BTreeMap<i64, i64>,
    next_poll: Instant,
    turns: Turns,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, inbox: Arc<Inbox>, busy_timeout: Duration) -> std::io::Result<()> {
        let (due, next_poll, turns) = (Default::default(), Instant::now(), Turns::new(busy_timeout));
        let mut writer = Self { connection, state: State::default(), inbox, due, next_poll, turns };
        std::thread::Builder::new().name("abe-sqlite".to_owned()).spawn(move || {
            // Whoever waits for the end learns of it even if the thread panics; what it was asked is dropped, hence unknown.
            let _ended = writer.inbox.ended.clone().drop_guard();
            let inbox = writer.inbox.clone();
            let _closed = CloseAtEnd(&inbox);
            writer.run();
            drop(writer);
        })?;
        Ok(())
    }

    fn run(&mut self) {
        loop {
            match self.inbox.next(self.pause()) {
                Some(works) if works.is_empty() => return,
                Some(works) => self.serve(works),
                None => {}
            }
            self.wake_due();
            self.look_for_others();
        }
    }

    /// How long nothing needs to be done.
    fn pause(&self) -> Duration {
        let poll =
            if self.state.lives.is_empty() { Duration::from_secs(1) } else { self.next_poll.saturating_duration_since(Instant::now()) };
        let due = self.due.values().min().map_or(poll, |due| Duration::from_millis(u64::try_from(due - now()).unwrap_or(0)));
        poll.min(due)
    }

    /// Lets lanes look for what has fallen due.
    fn wake_due(&mut self) {
        let (now, lives) = (now(), &self.state.lives);
        self.due.retain(|number, due| {
            if *due > now {
                return true;
            }
            if let Some(live) = lives.get(number) {
                live.wake(1);
            }
            false
        });
    }

    /// Other processes tell nobody that they committed.
    fn look_for_others(&mut self) {
        if Instant::now() < self.next_poll || self.state.lives.is_empty() {
            return;
        }
        self.next_poll = Instant::now() + Duration::from_millis(fastrand::u64(POLL_MS));
        match self.state.refresh(&self.connection) {
            Ok(true) => {
                self.turns.others_wrote();
                self.state.lives.values().for_each(|live| live.wake(usize::MAX));
            }
            Ok(false) => {}
            Err(fault) => tracing::warn!(error = %not_stored(&fault), "the sqlite file cannot be read, trying again"),
        }
    }

    /// All in one transaction; if one of them fails, each in one of its own, so that nobody fails for another.
    fn serve(&mut self, mut works: Vec<Box<dyn Work>>) {
        match self.transact(&mut works) {
            Ok(()) => works.into_iter().for_each(|work| work.answer(Ok(()))),
            Err(Undone::Within(_)) if works.len() > 1 => {
                for work in works {
                    let mut alone = [work];
                    let outcome = self.transact(&mut alone).map_err(|undone| undone.error());
                    let [work] = alone;
                    work.answer(outcome);
                }
            }
            // Whatever keeps the file from us keeps it from each; and what may be stored must not be stored again unasked.
            Err(undone) => works.into_iter().for_each(|work| work.answer(Err(undone.error()))),
        }
    }

    fn transact(&mut self, works: &mut [Box<dyn Work>]) -> Result<(), Undone> {
        let outcome = self.try_transact(works);
        if outcome.is_err() {
            self.state.forget();
            if !self.connection.is_autocommit()
                && let Err(fault) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(error = %not_stored(&fault), "a transaction could not be undone");
            }
        }
        outcome
    }

    fn try_transact(&mut self, works: &mut [Box<dyn Work>]) -> Result<(), Undone> {
        let connection = &self.connection;
        let run = |sql: &str| connection.prepare_cached(sql)?.execute([]);
        self.turns.begin(connection).map_err(Undone::Begin)?;
        if self.state.refresh(connection).map_err(Undone::Begin)? {
            self.turns.others_wrote();
        }
        let before = connection.total_changes();
        let mut tx = Tx { connection, state: &mut self.state, now: now(), ready: Default::default(), due: Default::default() };
        for work in works {
            work.run(&mut tx).map_err(Undone::Within)?;
        }
        let (ready, due) = (tx.ready, tx.due);
        self.state.flush(connection).map_err(Undone::Within)?;
        let forgotten = crate::mutant::is("sqlite-commit-forgotten") && fastrand::u32(0..50) == 0;
        run(if forgotten { "ROLLBACK" } else { "COMMIT" }).map_err(Undone::Commit)?;
        self.turns.ended();
        if forgotten {
            self.state.forget();
        }
        if connection.total_changes() != before {
            self.inbox.commits.fetch_add(1, Ordering::Relaxed);
        }
        self.state.show();
        for (number, due) in due {
            let known = self.due.entry(number).or_insert(due);
            *known = due.min(*known);
        }
        for (number, count) in ready {
            if let Some(live) = self.state.lives.get(&number) {
                live.wake(count);
            }
        }
        Ok(())
    }
}

/// Where a transaction failed.
enum Undone {
    /// Before anything was done.
    Begin(Fault),
    /// In one of the works.
    Within(Fault),
    Commit(Fault),
}

impl Undone {
    fn error(&self) -> Error {
        match self {
            Self::Begin(fault) | Self::Within(fault) => not_stored(fault),
            Self::Commit(fault) => of_commit(fault),
        }
    }
}

/// Milliseconds since 1970 by the clock that all processes of the machine share.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Refuses what comes after the thread's end, and drops what was not begun.
struct CloseAtEnd<'a>(&'a Inbox);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        let mut asked = self.0.lock();
        asked.closed = true;
        let left = std::mem::take(&mut asked.works);
        drop(asked);
        drop(left);
    }
}
