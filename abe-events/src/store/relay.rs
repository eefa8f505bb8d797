//! The relay: publishes what transactions have put into the outbox, in order, and removes it once the broker has it.
//!
//! Of all processes on a database one relays, under a lease; the others wait for it to end. What is removed and noted is
//! fenced by the lease's token, so that a process that was stopped for a while changes nothing that is no longer its own.
//! At least once, with the same ids: a crash between publishing and removing publishes again.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Backlog, Database, Refused, Waiting, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::mutant;
use crate::publisher::Publisher;

/// The one lane there is.
const LANE: i64 = 0;

/// How many messages are read and published at once.
const BATCH: u32 = 256;

/// How often an empty outbox is looked at; each time a little earlier, so that processes do not fall into step.
const POLL: Duration = Duration::from_millis(200);

/// The first look after something was put in by a transaction whose end is not told; then twice as long each time.
const POLL_SOON: Duration = Duration::from_millis(5);

/// How often the backlog is counted, and old keys are removed from the inbox.
const LOOK: Duration = Duration::from_secs(1);
const PRUNE: Duration = Duration::from_secs(10);
const PRUNE_BATCH: u32 = 500;

/// After so many refusals in a row the broker is left alone for a while.
const REFUSALS_MAX: u32 = 3;

/// The pause then, and before a refused message is tried again: doubled from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What is set once, at start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelaySettings {
    /// How long another process waits for this one when it says nothing.
    pub(crate) lease: Duration,
    /// Whether what is left is published before the end, rather than by the next process.
    pub(crate) empties: bool,
}

/// The handle of the relay of this process: wakes it, and tells how it stands.
pub(crate) struct Relay {
    database: Arc<dyn Database>,
    woken: Notify,
    /// Counts what was put in without a word of its commit.
    expected: AtomicU64,
    stop: CancellationToken,
    numbers: Numbers,
}

#[derive(Debug, Default)]
struct Numbers {
    published: AtomicU64,
    pending: AtomicU64,
    refused: AtomicU64,
    oldest_ms: AtomicU64,
}

impl Relay {
    pub(super) fn new(database: Arc<dyn Database>) -> Self {
        Self { database, woken: Notify::new(), expected: AtomicU64::new(0), stop: CancellationToken::new(), numbers: Numbers::default() }
    }

    /// Something was committed.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Something may be committed soon.
    pub(crate) fn expect(&self) {
        self.expected.fetch_add(1, Ordering::Relaxed);
        self.woken.notify_one();
    }

    /// Ends after what is under way.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// How many messages this process has published from the outbox, and what waited in it when it was last looked at.
    pub(crate) fn numbers(&self) -> (u64, Backlog) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let oldest = Duration::from_millis(read(&self.numbers.oldest_ms));
        let backlog = Backlog { pending: read(&self.numbers.pending), refused: read(&self.numbers.refused), oldest };
        (read(&self.numbers.published), backlog)
    }

    /// Relays until it is stopped.
    pub(crate) async fn run(&self, publisher: Publisher, settings: RelaySettings) {
        let mut turn = Turn { relay: self, publisher, settings, token: None, kept: Instant::now(), pause: PAUSE.0, soon: POLL };
        let relaying = async {
            turn.relay_until_stopped().await;
            turn.leave().await;
        };
        tokio::join!(relaying, self.look(), self.prune());
    }

    /// Counts what waits, now and then.
    async fn look(&self) {
        while !self.stopped_within(LOOK).await {
            match self.database.backlog().await {
                Ok(backlog) => {
                    self.numbers.pending.store(backlog.pending, Ordering::Relaxed);
                    self.numbers.refused.store(backlog.refused, Ordering::Relaxed);
                    self.numbers.oldest_ms.store(millis(backlog.oldest).cast_unsigned(), Ordering::Relaxed);
                }
                Err(error) => tracing::warn!(%error, "the outbox was not counted"),
            }
        }
    }

    /// Removes keys whose time is over, a few at a time, so that nobody waits long for it.
    async fn prune(&self) {
        let mut full = false;
        while !self.stopped_within(if full { POLL } else { PRUNE.mul_f64(0.5 + 0.5 * fastrand::f64()) }).await {
            full = match self.database.prune(PRUNE_BATCH).await {
                Ok(count) => count == u64::from(PRUNE_BATCH),
                Err(error) => {
                    tracing::warn!(%error, "old keys were not removed from the inbox; tried again");
                    false
                }
            };
        }
    }

    async fn stopped_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stop.cancelled()).await.is_ok()
    }
}

/// The relay at work.
struct Turn<'a> {
    relay: &'a Relay,
    publisher: Publisher,
    settings: RelaySettings,
    /// Under which the lane is this process's.
    token: Option<i64>,
    /// When the lease was last known to run, before it was asked for.
    kept: Instant,
    /// How long the broker is left alone when it refuses everything.
    pause: Duration,
    /// How long until the next look, after something was expected.
    soon: Duration,
}

/// What came of a round.
enum Round {
    /// Some were published.
    Some,
    /// There was nothing to publish.
    Nothing,
    /// The broker refuses, or the database does not answer.
    Failed,
    /// Another process relays.
    Elsewhere,
}

impl Turn<'_> {
    async fn relay_until_stopped(&mut self) {
        let mut seen = 0;
        loop {
            let stopping = self.relay.stop.is_cancelled();
            if stopping && !self.settings.empties {
                return;
            }
            let round = self.round().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the outbox was not read; tried again");
                Round::Failed
            });
            match round {
                Round::Some => (self.pause, self.soon) = (PAUSE.0, POLL_SOON),
                // What others may still commit is the next process's.
                _ if stopping => return,
                Round::Nothing => {
                    let expected = self.relay.expected.load(Ordering::Relaxed);
                    self.soon = if expected == seen { (self.soon * 2).min(POLL) } else { POLL_SOON };
                    seen = expected;
                    self.wait(self.soon.mul_f64(0.75 + 0.25 * fastrand::f64()), true).await;
                }
                Round::Failed => {
                    self.wait(self.pause.mul_f64(0.5 + 0.5 * fastrand::f64()), false).await;
                    self.pause = (self.pause * 2).min(PAUSE.1);
                }
                Round::Elsewhere => self.wait((self.settings.lease / 3).min(Duration::from_secs(1)), false).await,
            }
        }
    }

    async fn wait(&self, time: Duration, wakes: bool) {
        let woken = async { if wakes { self.relay.woken.notified().await } else { std::future::pending().await } };
        tokio::select! {
            () = self.relay.stop.cancelled() => {}
            () = woken => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// Reads, publishes and removes once.
    async fn round(&mut self) -> Result<Round> {
        let Some(token) = self.hold().await? else { return Ok(Round::Elsewhere) };
        let waiting = self.relay.database.waiting(BATCH).await?;
        if waiting.is_empty() {
            return Ok(Round::Nothing);
        }
        mutant::pass("relay-read");
        if mutant::is("relay-marks-before-publish") {
            let all = waiting.iter().map(|message| message.seq).collect();
            self.relay.database.settle((LANE, token, self.settings.lease), all, Vec::new()).await?;
            mutant::pass("relay-published");
        }
        let (sent, refused) = self.publish(waiting).await?;
        mutant::pass("relay-published");
        let asked = Instant::now();
        let (published, failed) = (sent.len() as u64, refused.len());
        if self.relay.database.settle((LANE, token, self.settings.lease), sent, refused).await? {
            self.kept = asked;
        } else {
            tracing::warn!("the relay's lease ended while it published; another process publishes the same again");
            self.token = None;
        }
        mutant::pass("relay-settled");
        self.relay.numbers.published.fetch_add(published, Ordering::Relaxed);
        Ok(if published == 0 && failed > 0 { Round::Failed } else { Round::Some })
    }

    /// The lane's token, if this process has it or can have it.
    async fn hold(&mut self) -> Result<Option<i64>> {
        let (database, lease) = (&self.relay.database, self.settings.lease);
        if let Some(token) = self.token {
            if self.kept.elapsed() < lease / 3 {
                return Ok(Some(token));
            }
            let asked = Instant::now();
            if database.keep_lane(LANE, token, lease).await? {
                self.kept = asked;
                return Ok(Some(token));
            }
            tracing::warn!("the relay's lease ended; another process may have it");
        }
        let asked = Instant::now();
        self.token = database.take_lane(LANE, lease).await?;
        self.kept = asked;
        Ok(self.token)
    }

    async fn leave(&mut self) {
        if let Some(token) = self.token.take()
            && let Err(error) = self.relay.database.leave_lane(LANE, token).await
        {
            tracing::warn!(%error, "the relay's lease was not ended; the next one waits for its end");
        }
    }

    /// Publishes in order, and keeps the lease meanwhile: what was published, and what was refused.
    async fn publish(&mut self, waiting: Vec<Waiting>) -> Result<(Vec<i64>, Vec<Refused>)> {
        let mut sorted = Sorted::default();
        let mut run: Vec<(i64, Message)> = Vec::new();
        let mut of_run: Vec<Waiting> = Vec::new();
        let mut waiting = waiting.into_iter().peekable();
        while let Some(next) = waiting.next() {
            let delay = next.row.delay();
            match next.row.message() {
                Ok(message) => {
                    run.push((next.seq, message));
                    of_run.push(next);
                }
                Err(error) => sorted.refuse(&next, &error),
            }
            // One publish has one delay.
            if waiting.peek().is_none_or(|after| after.row.delay() != delay)
                && !self.publish_run(&mut sorted, &mut run, &mut of_run, delay).await
            {
                break;
            }
        }
        Ok((sorted.sent, sorted.refused))
    }

    /// Publishes a run together, or what is left of it one by one when that fails; `false` when the broker is to be left alone.
    async fn publish_run(&mut self, sorted: &mut Sorted, run: &mut Vec<(i64, Message)>, rows: &mut Vec<Waiting>, delay: Duration) -> bool {
        let rows = std::mem::take(rows);
        let mut run = std::mem::take(run);
        // Behind one that was refused, those of its key wait.
        run.retain(|(_, message)| !sorted.holds(message));
        if run.is_empty() {
            return true;
        }
        let together = run.iter().map(|(_, message)| message.clone()).collect();
        let stored = match self.keeping(|publisher| async move { publisher.relay(together, delay).await }).await {
            Ok(()) => run.len(),
            Err(failure) if failure.error.kind() == ErrorKind::Closed => return false,
            Err(failure) => failure.stored,
        };
        sorted.sent.extend(run.iter().take(stored).map(|(seq, _)| *seq));
        let mut refusals = 0;
        for (seq, message) in run.into_iter().skip(stored) {
            if sorted.holds(&message) {
                continue;
            }
            let alone = vec![message.clone()];
            match self.keeping(|publisher| async move { publisher.relay(alone, delay).await }).await {
                Ok(()) => {
                    refusals = 0;
                    sorted.sent.push(seq);
                }
                Err(failure) if failure.error.kind() == ErrorKind::Closed => return false,
                Err(failure) => {
                    refusals += 1;
                    if let Some(row) = rows.iter().find(|row| row.seq == seq) {
                        sorted.refuse(row, &failure.error);
                    }
                    if refusals >= REFUSALS_MAX {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Waits for the broker, however long its queues are full, and keeps the lane meanwhile.
    async fn keeping<T, F: Future<Output = T>>(&mut self, publish: impl FnOnce(Publisher) -> F) -> T {
        let mut publishing = std::pin::pin!(publish(self.publisher.clone()));
        let lease = self.settings.lease;
        loop {
            let left = (lease / 3).saturating_sub(self.kept.elapsed());
            tokio::select! {
                published = &mut publishing => return published,
                () = tokio::time::sleep(left.max(Duration::from_millis(10))) => {}
            }
            let Some(token) = self.token else { continue };
            let asked = Instant::now();
            match self.relay.database.keep_lane(LANE, token, lease).await {
                // Lost: what is on its way is published, and settling it will change nothing.
                Ok(_) => self.kept = asked,
                Err(error) => tracing::warn!(%error, "the relay's lease was not renewed; tried again"),
            }
        }
    }
}

/// What came of a batch.
#[derive(Default)]
struct Sorted {
    sent: Vec<i64>,
    refused: Vec<Refused>,
    keys: HashSet<String>,
}

impl Sorted {
    /// Puts a message back for a while, longer each time; the error is kept with it.
    fn refuse(&mut self, waiting: &Waiting, error: &Error) {
        let after = PAUSE.0.saturating_mul(1u32.checked_shl(waiting.attempts).unwrap_or(u32::MAX)).min(PAUSE.1);
        let (id, topic) = (&waiting.row.id, &waiting.row.topic);
        tracing::error!(id, topic, %error, ?after, attempt = waiting.attempts + 1, "the broker refused a message of the outbox; it is kept and tried again");
        self.keys.extend(waiting.row.key.clone());
        self.refused.push(Refused { seq: waiting.seq, after, error: error.to_string().chars().take(500).collect() });
    }

    fn holds(&self, message: &Message) -> bool {
        message.key().is_some_and(|key| self.keys.contains(key))
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}
