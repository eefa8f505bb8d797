//! What is asked while a transaction is under way, and shares the next one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How much one transaction takes on: beyond this a longer one gains nothing.
const GROUP_WEIGHT_MAX: usize = 8 * 1024 * 1024;

/// Something to be done together with others of its kind.
pub(super) trait Work: Send {
    /// How many rows it is about.
    fn rows(&self) -> usize;

    /// Approximate bytes it sends.
    fn bytes(&self) -> usize;
}

/// Asked by many, done by one task.
#[derive(Debug)]
pub(super) struct Queue<W> {
    asked: Mutex<Asked<W>>,
    more: Notify,
    rows_max: usize,
    /// When the task has ended.
    pub(super) ended: CancellationToken,
}

#[derive(Debug)]
struct Asked<W> {
    works: VecDeque<W>,
    closed: bool,
}

impl<W: Work> Queue<W> {
    /// `rows_max`: how many rows a group has at most, unless a single work has more.
    pub(super) fn new(rows_max: usize) -> Self {
        let asked = Mutex::new(Asked { works: VecDeque::new(), closed: false });
        Self { asked, more: Notify::new(), rows_max, ended: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Asked<W>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for something; gives it back when nobody is there to do it any more.
    pub(super) fn push(&self, work: W) -> Result<(), W> {
        let mut asked = self.lock();
        if asked.closed {
            return Err(work);
        }
        asked.works.push_back(work);
        drop(asked);
        self.more.notify_one();
        Ok(())
    }

    /// Lets the task end after what was asked before.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    /// Nobody does anything any more: what is left is dropped, and its askers learn of it.
    pub(super) fn abandon(&self) {
        let mut asked = self.lock();
        asked.closed = true;
        let left = std::mem::take(&mut asked.works);
        drop(asked);
        drop(left);
        self.ended.cancel();
    }

    /// What shares the next transaction; nothing at the end.
    pub(super) async fn next(&self) -> Vec<W> {
        loop {
            if let Some(group) = self.take() {
                return group;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<Vec<W>> {
        let mut asked = self.lock();
        if asked.works.is_empty() {
            return asked.closed.then(Vec::new);
        }
        let (mut count, mut rows, mut bytes) = (0, 0, 0);
        for work in &asked.works {
            rows += work.rows();
            bytes += work.bytes();
            if count > 0 && (rows > self.rows_max || bytes > GROUP_WEIGHT_MAX) {
                break;
            }
            count += 1;
        }
        Some(asked.works.drain(..count).collect())
    }
}

/// Abandons a queue when its task ends, even if by a panic or with its runtime.
pub(super) struct Served<'a, W: Work>(pub(super) &'a Queue<W>);

impl<W: Work> Drop for Served<'_, W> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
