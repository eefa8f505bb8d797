//! Publishing: a message once, and a row in the queue of each subscription that takes it. What is asked while a group is
//! under way shares the next: one statement, one round trip, one commit.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use tokio::sync::oneshot;

use super::super::stored::Stored;
use super::super::{PublishFailure, Published};
use super::db::{Db, Sql, Values};
use super::error::Fault;
use super::line::Lines;
use super::live::Lives;
use super::queue::{Queue, Served, Work};
use super::routes::{Routes, Target};
use crate::error::{Error, ErrorKind, Result};

/// How many messages of several calls one statement stores.
pub(super) const GROUP_MAX: usize = 4_096;

/// How many messages one call may have: as many as a block has places.
const CALL_MAX: usize = 1 << 20;

/// How often the subscriptions are read again for one publish before it is given up.
const READS_MAX: usize = 20;

/// What is later than this is as good as never.
const LATEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The messages of one call: all are stored, or none.
#[derive(Debug)]
pub(super) struct Publish {
    messages: Vec<Stored>,
    delay: Duration,
    reply: oneshot::Sender<Result<Published, PublishFailure>>,
}

impl Publish {
    pub(super) fn new(messages: Vec<Stored>, delay: Duration, reply: oneshot::Sender<Result<Published, PublishFailure>>) -> Self {
        Self { messages, delay, reply }
    }

    fn answer(self, outcome: Result<u64>) {
        let outcome = outcome.map(|deliveries| Published { deliveries }).map_err(|error| PublishFailure { stored: 0, error });
        // Nobody listens any more: the outcome is unknown to them, as the seam says.
        let _ = self.reply.send(outcome);
    }
}

impl Work for Publish {
    fn rows(&self) -> usize {
        self.messages.len()
    }

    fn bytes(&self) -> usize {
        self.messages.iter().map(|message| usize::try_from(message.bytes()).unwrap_or(0)).sum()
    }
}

/// The statements.
#[derive(Debug)]
pub(super) struct Statements {
    plain: Sql,
    /// The same where a message may have to stand behind another of its key.
    lined: Sql,
    /// Where nobody takes any message: still, is this known of today?
    epoch: Sql,
}

impl Statements {
    pub(super) fn new(db: &Db) -> Self {
        let plain = include_str!("publish.sql");
        // A scalar subquery, not EXISTS: that could be answered by reading the whole table.
        let behind = "d.line IS NOT NULL AND (d.behind OR (SELECT true FROM {s}.delivery AS e \
                      WHERE e.subscription = d.subscription AND e.line = d.line LIMIT 1) IS NOT NULL)";
        Self {
            plain: db.sql(&plain.replace("{behind}", "false")),
            lined: db.sql(&plain.replace("{behind}", behind)),
            epoch: db.sql("SELECT 0::bigint, 0::bigint FROM {s}.epoch WHERE n = $1"),
        }
    }
}

/// The rows of a statement, column by column.
#[derive(Debug, Default)]
struct Columns<'a> {
    ids: Vec<&'a str>,
    topics: Vec<&'a str>,
    versions: Vec<i64>,
    times: Vec<i64>,
    keys: Vec<Option<&'a [u8]>>,
    attributes: Vec<Option<&'a str>>,
    payloads: Vec<&'a [u8]>,
    takers: Vec<i32>,
    messages: Vec<i64>,
    subscriptions: Vec<i32>,
    sizes: Vec<i64>,
    shared: Vec<bool>,
    delays: Vec<Option<i64>>,
    lines: Vec<Option<&'a [u8]>>,
    later: Vec<Option<&'a [u8]>>,
    behind: Vec<bool>,
}

impl<'a> Columns<'a> {
    fn add(&mut self, message: &'a Stored, route: &[Target], delay: Option<i64>, seen: &mut HashSet<(i32, &'a [u8])>) {
        let key = message.key.as_deref().map(str::as_bytes);
        self.ids.push(&message.id);
        self.topics.push(message.topic.as_str());
        self.versions.push(message.version.into());
        self.times.push(message.time_ms);
        self.keys.push(key);
        self.attributes.push(message.attributes.as_deref());
        self.payloads.push(&message.payload);
        self.takers.push(i32::try_from(route.len()).unwrap_or(i32::MAX));
        for target in route {
            let key = key.filter(|_| target.ordered);
            self.messages.push(i64::try_from(self.ids.len()).unwrap_or(i64::MAX));
            self.subscriptions.push(target.subscription);
            self.sizes.push(message.bytes());
            self.shared.push(route.len() > 1);
            self.delays.push(delay);
            self.lines.push(key.filter(|_| delay.is_none()));
            self.later.push(key.filter(|_| delay.is_some()));
            self.behind.push(match key.filter(|_| delay.is_none()) {
                Some(key) => !seen.insert((target.subscription, key)),
                None => false,
            });
        }
    }

    fn values(&self, epoch: i64) -> Values {
        Values::default()
            .and(epoch)
            .and(&self.ids)
            .and(&self.topics)
            .and(&self.versions)
            .and(&self.times)
            .and(&self.keys)
            .and(&self.attributes)
            .and(&self.payloads)
            .and(&self.takers)
            .and(&self.messages)
            .and(&self.subscriptions)
            .and(&self.sizes)
            .and(&self.shared)
            .and(&self.delays)
            .and(&self.lines)
            .and(&self.later)
            .and(&self.behind)
    }
}

/// What was stored for a subscription.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) ready: i64,
    pub(super) delayed: i64,
    pub(super) bytes: i64,
    /// When the first of the delayed is due.
    pub(super) due_in: Option<Duration>,
}

/// What became of a group.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many deliveries of each work.
    deliveries: Vec<u64>,
    given: BTreeMap<i32, Given>,
    /// The keys of those that stand behind another, if any may.
    lined: Vec<(i32, Vec<u8>)>,
}

/// A delay in microseconds, rounded up; `None` for none.
pub(super) fn micros(delay: Duration) -> Option<i64> {
    (!delay.is_zero()).then(|| i64::try_from(delay.min(LATEST).as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX))
}

/// Stores works in one statement: all of them, or none.
pub(super) async fn store(db: &Db, sql: &Statements, routes: &mut Routes, works: &[Publish]) -> Result<Outcome, Fault> {
    for _ in 0..READS_MAX {
        let epoch = match routes.epoch {
            Some(epoch) => epoch,
            None => {
                routes.read(db).await?;
                routes.epoch.ok_or_else(stale)?
            }
        };
        let (mut columns, mut seen, mut outcome) = (Columns::default(), HashSet::new(), Outcome::default());
        for work in works {
            let delay = micros(work.delay);
            let before = columns.messages.len();
            for message in &work.messages {
                let route = routes.of_topic(&message.topic);
                if route.is_empty() {
                    continue;
                }
                columns.add(message, &route, delay, &mut seen);
                note(&mut outcome.given, &route, message.bytes(), delay.map(|_| work.delay));
            }
            outcome.deliveries.push((columns.messages.len() - before) as u64);
        }
        let ordered = !seen.is_empty();
        let (text, values) = match (columns.ids.is_empty(), ordered) {
            (true, _) => (&sql.epoch, Values::default().and(epoch)),
            (_, true) => (&sql.lined, columns.values(epoch)),
            (_, false) => (&sql.plain, columns.values(epoch)),
        };
        let rows = db.run(text, values).await?;
        let Some(row) = rows.first() else {
            // Somebody subscribed since; nothing was stored.
            routes.forget();
            continue;
        };
        let lined: i64 = row.try_get(1).map_err(Fault::of)?;
        if lined > 0 {
            outcome.lined = seen.into_iter().map(|(subscription, key)| (subscription, key.to_vec())).collect();
        }
        return Ok(outcome);
    }
    Err(stale())
}

fn stale() -> Fault {
    Fault::Refused(sqlx::Error::RowNotFound)
}

fn note(given: &mut BTreeMap<i32, Given>, route: &[Target], bytes: i64, delay: Option<Duration>) {
    for target in route {
        let given = given.entry(target.subscription).or_default();
        given.bytes += bytes;
        given.delayed += i64::from(delay.is_some());
        given.ready += i64::from(delay.is_none());
        given.due_in = given.due_in.into_iter().chain(delay).min();
    }
}

/// The task that stores what is published.
pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) queue: Arc<Queue<Publish>>,
    pub(super) lives: Arc<Lives>,
    pub(super) lines: Lines,
}

impl Writer {
    pub(super) async fn run(self) {
        let _served = Served(&*self.queue);
        let sql = Statements::new(&self.db);
        let mut routes = Routes::new(&self.db);
        loop {
            let group = self.queue.next().await;
            if group.is_empty() {
                return;
            }
            match self.serve(&sql, &mut routes, &group).await {
                Ok(outcome) => self.stored(group, outcome).await,
                Err(fault) if fault.is_refused() && group.len() > 1 => {
                    // Nobody fails for another.
                    for work in group {
                        let alone = [work];
                        let outcome = self.serve(&sql, &mut routes, &alone).await;
                        let [work] = alone;
                        match outcome {
                            Ok(outcome) => self.stored(vec![work], outcome).await,
                            Err(fault) => work.answer(Err(fault.published())),
                        }
                    }
                }
                Err(fault) => group.into_iter().for_each(|work| work.answer(Err(fault.published()))),
            }
        }
    }

    /// Between the begin and the end nobody counts what is in the tables.
    async fn serve(&self, sql: &Statements, routes: &mut Routes, works: &[Publish]) -> Result<Outcome, Fault> {
        let changing = self.lives.changing();
        let stored = store(&self.db, sql, routes, works).await;
        match &stored {
            Ok(outcome) => self.lives.given(&outcome.given),
            Err(_) => routes.forget(),
        }
        drop(changing);
        stored
    }

    async fn stored(&self, group: Vec<Publish>, outcome: Outcome) {
        for (work, deliveries) in group.into_iter().zip(outcome.deliveries) {
            work.answer(Ok(deliveries));
        }
        self.lives.published(outcome.given.keys().copied());
        if !outcome.lined.is_empty() {
            // The head it stands behind may have ended while this was on its way, and nobody saw it then.
            let free = self.lines.advance(&self.db, outcome.lined).await;
            free.into_iter().for_each(|subscription| self.lives.wake(subscription));
        }
    }
}

/// Refuses what cannot be stored in one statement.
pub(super) fn check(messages: &[Stored]) -> Result<()> {
    if messages.len() > CALL_MAX {
        let text = format!("postgres: {} messages in one call; at most {CALL_MAX} are stored together", messages.len());
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    Ok(())
}
