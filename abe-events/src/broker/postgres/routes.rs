//! Who takes which topic, as this process last read it, and how it notices that it must read again.
//!
//! Every change of a subscription changes the epoch in the same transaction. A publish stores only if the epoch it knows is
//! the one its own snapshot shows; so a subscription that had been answered for when a publish began is never missed.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::db::{Db, Sql, Values};
use super::error::Fault;
use crate::topic::{Topic, TopicPattern};

/// How many topics are remembered. Those beyond are worked out on every publish, so that made-up topics fill no memory.
const TOPICS_MAX: usize = 4_096;

/// A subscription that takes a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) subscription: i32,
    pub(super) ordered: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Routes {
    sql: Sql,
    pub(super) epoch: Option<i64>,
    patterns: Vec<(Target, TopicPattern)>,
    known: HashMap<Topic, Arc<[Target]>, RandomState>,
}

impl Routes {
    pub(super) fn new(db: &Db) -> Self {
        let sql = "SELECT e.n, s.number, s.ordered, p.pattern FROM {s}.epoch AS e \
                   LEFT JOIN ({s}.subscription AS s JOIN {s}.pattern AS p ON p.subscription = s.number) ON true ORDER BY s.number";
        Self { sql: db.sql(sql), epoch: None, patterns: Vec::new(), known: HashMap::default() }
    }

    /// Reads everything, in one snapshot.
    pub(super) async fn read(&mut self, db: &Db) -> Result<(), Fault> {
        self.forget();
        let rows = db.run(&self.sql, Values::default()).await?;
        for row in &rows {
            let (epoch, found) = Self::of(row).map_err(Fault::of)?;
            self.epoch = Some(epoch);
            // Written by us, or by nobody we know.
            if let Some((target, pattern)) = found
                && let Ok(pattern) = TopicPattern::new(&pattern)
            {
                self.patterns.push((target, pattern));
            }
        }
        Ok(())
    }

    fn of(row: &PgRow) -> Result<(i64, Option<(Target, String)>), sqlx::Error> {
        let subscription: Option<i32> = row.try_get(1)?;
        let found = match subscription {
            Some(subscription) => Some((Target { subscription, ordered: row.try_get(2)? }, row.try_get(3)?)),
            None => None,
        };
        Ok((row.try_get(0)?, found))
    }

    pub(super) fn forget(&mut self) {
        self.epoch = None;
        self.patterns.clear();
        self.known.clear();
    }

    /// The subscriptions that take a topic.
    pub(super) fn of_topic(&mut self, topic: &Topic) -> Arc<[Target]> {
        if let Some(known) = self.known.get(topic) {
            return known.clone();
        }
        let mut route: Vec<Target> =
            self.patterns.iter().filter(|(_, pattern)| pattern.matches(topic.as_str())).map(|(target, _)| *target).collect();
        route.dedup();
        let route: Arc<[Target]> = route.into();
        if self.known.len() < TOPICS_MAX {
            self.known.insert(topic.clone(), route.clone());
        }
        route
    }
}
