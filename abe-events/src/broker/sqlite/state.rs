//! What the writer knows of the file between transactions: subscriptions, their counters, and who takes which topic.
//!
//! It is a copy. Whenever another process has committed, or a transaction of our own was undone, it is read anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use rusqlite::{Connection, params};

use super::error::Fault;
use super::live::Live;
use crate::topic::{Topic, TopicPattern};

/// How many topics are remembered. Those beyond are worked out on every publish, so that made-up topics fill no memory.
const TOPICS_MAX: usize = 4_096;

/// A subscription's row.
#[derive(Debug, Clone, Default)]
pub(super) struct Subscription {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) ordered: bool,
    /// The backlog up to here has been handed out.
    pub(super) claimed: i64,
    /// The last token given.
    pub(super) tokens: i64,
    pub(super) pending: i64,
    pub(super) unsettled: i64,
    pub(super) delayed: i64,
    pub(super) bytes: i64,
    pub(super) accepted: i64,
    /// Changed in the running transaction.
    dirty: bool,
}

/// The copy.
#[derive(Debug, Default)]
pub(super) struct State {
    subscriptions: BTreeMap<i64, Subscription>,
    patterns: Vec<(i64, TopicPattern)>,
    routes: HashMap<Topic, Arc<[i64]>, RandomState>,
    /// What `PRAGMA data_version` said when the copy was made: it changes with every commit of another connection.
    data_version: Option<i64>,
    /// The subscriptions of this process's consumers.
    pub(super) lives: BTreeMap<i64, Arc<Live>>,
}

impl State {
    /// Makes the next transaction read everything anew.
    pub(super) fn forget(&mut self) {
        self.data_version = None;
    }

    /// Reads everything anew if another connection has committed; says whether it did.
    pub(super) fn refresh(&mut self, connection: &Connection) -> Result<bool, Fault> {
        let version: i64 = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.data_version == Some(version) {
            return Ok(false);
        }
        self.subscriptions = read_subscriptions(connection)?;
        self.patterns = read_patterns(connection)?;
        self.routes.clear();
        self.data_version = Some(version);
        for (number, live) in &self.lives {
            if let Some(subscription) = self.subscriptions.get(number) {
                live.show(subscription);
            }
        }
        Ok(true)
    }

    pub(super) fn find(&self, group: &str, name: &str) -> Option<i64> {
        self.subscriptions.iter().find(|(_, known)| known.group == group && known.name == name).map(|(number, _)| *number)
    }

    pub(super) fn add(&mut self, number: i64, group: &str, name: &str, ordered: bool) {
        let row = Subscription { group: group.to_owned(), name: name.to_owned(), ordered, ..Subscription::default() };
        self.subscriptions.insert(number, row);
    }

    pub(super) fn topics(&self, number: i64) -> Vec<TopicPattern> {
        let mut topics: Vec<TopicPattern> =
            self.patterns.iter().filter(|(known, _)| *known == number).map(|(_, pattern)| pattern.clone()).collect();
        topics.sort();
        topics
    }

    pub(super) fn set_topics(&mut self, number: i64, topics: Vec<TopicPattern>) {
        self.patterns.retain(|(known, _)| *known != number);
        self.patterns.extend(topics.into_iter().map(|pattern| (number, pattern)));
        self.patterns.sort_by_key(|(number, _)| *number);
        self.routes.clear();
    }

    /// What this process's consumers of a subscription share.
    pub(super) fn live(&mut self, number: i64) -> Result<Arc<Live>, Fault> {
        let row = self.subscriptions.get(&number).ok_or(Fault::QueryReturnedNoRows)?;
        Ok(self.lives.entry(number).or_insert_with(|| Arc::new(Live::new(row))).clone())
    }

    pub(super) fn get(&self, number: i64) -> Option<&Subscription> {
        self.subscriptions.get(&number)
    }

    /// A subscription to be changed; it is written at the end of the transaction.
    pub(super) fn change(&mut self, number: i64) -> Result<&mut Subscription, Fault> {
        let found = self.subscriptions.get_mut(&number).ok_or(Fault::QueryReturnedNoRows)?;
        found.dirty = true;
        Ok(found)
    }

    /// The subscriptions that take a topic.
    pub(super) fn route(&mut self, topic: &Topic) -> Arc<[i64]> {
        if let Some(known) = self.routes.get(topic) {
            return known.clone();
        }
        let mut route: Vec<i64> =
            self.patterns.iter().filter(|(_, pattern)| pattern.matches(topic.as_str())).map(|(number, _)| *number).collect();
        route.dedup();
        let route: Arc<[i64]> = route.into();
        if self.routes.len() < TOPICS_MAX {
            self.routes.insert(topic.clone(), route.clone());
        }
        route
    }

    /// Writes what was changed.
    pub(super) fn flush(&self, connection: &Connection) -> Result<(), Fault> {
        let sql = "UPDATE abe_subscription SET claimed = ?2, tokens = ?3, pending = ?4, unsettled = ?5, delayed = ?6, bytes = ?7, \
                   accepted = ?8 WHERE number = ?1";
        for (number, row) in self.subscriptions.iter().filter(|(_, row)| row.dirty) {
            connection.prepare_cached(sql)?.execute(params![
                number,
                row.claimed,
                row.tokens,
                row.pending,
                row.unsettled,
                row.delayed,
                row.bytes,
                row.accepted
            ])?;
        }
        Ok(())
    }

    /// After the commit: what was changed is shown to those who ask how much there is to do.
    pub(super) fn show(&mut self) {
        for (number, row) in self.subscriptions.iter_mut().filter(|(_, row)| row.dirty) {
            row.dirty = false;
            if let Some(live) = self.lives.get(number) {
                live.show(row);
            }
        }
    }
}

fn read_subscriptions(connection: &Connection) -> Result<BTreeMap<i64, Subscription>, Fault> {
    let sql =
        "SELECT number, group_name, name, ordered, claimed, tokens, pending, unsettled, delayed, bytes, accepted FROM abe_subscription";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let subscription = Subscription {
            group: row.get(1)?,
            name: row.get(2)?,
            ordered: row.get(3)?,
            claimed: row.get(4)?,
            tokens: row.get(5)?,
            pending: row.get(6)?,
            unsettled: row.get(7)?,
            delayed: row.get(8)?,
            bytes: row.get(9)?,
            accepted: row.get(10)?,
            dirty: false,
        };
        Ok((row.get(0)?, subscription))
    })?;
    rows.collect()
}

fn read_patterns(connection: &Connection) -> Result<Vec<(i64, TopicPattern)>, Fault> {
    let mut statement = connection.prepare_cached("SELECT subscription, pattern FROM abe_pattern ORDER BY subscription")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut patterns = Vec::new();
    for row in rows {
        let (number, text) = row?;
        // Written by us, or by nobody we know.
        if let Ok(pattern) = TopicPattern::new(&text) {
            patterns.push((number, pattern));
        }
    }
    Ok(patterns)
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) state: &'a mut State,
    /// When it began, in milliseconds since 1970.
    pub(super) now: i64,
    /// How many messages became ready, by subscription: whom to wake after the commit.
    pub(super) ready: BTreeMap<i64, usize>,
    /// When to look again, by subscription.
    pub(super) due: BTreeMap<i64, i64>,
}

impl Tx<'_> {
    /// Something of a subscription may be handed out now.
    pub(super) fn wake(&mut self, subscription: i64) {
        *self.ready.entry(subscription).or_default() += 1;
    }

    /// Something of a subscription may be handed out then.
    pub(super) fn wake_at(&mut self, subscription: i64, due: i64) {
        let known = self.due.entry(subscription).or_insert(due);
        *known = due.min(*known);
    }

    /// When something is due that is asked for after a time: never early, though both ends are cut to milliseconds.
    pub(super) fn after(&self, time: std::time::Duration) -> i64 {
        let ms = i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        // Beyond what a clock can tell is as good as for ever.
        self.now.saturating_add(ms).saturating_add(1).min(i64::MAX / 4)
    }
}
