//! Dead letters: found, counted, handed back, thrown away.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::super::failures::failures_of;
use super::super::{DeadLetter, DeadLetterFilter};
use super::claim::message_of;
use super::db::{Db, Values};
use super::error::Fault;
use super::live::Lives;
use super::publish::Given;
use crate::error::Result;
use crate::topic::Name;

/// How many letters one transaction hands back.
const REPLAY_MAX: usize = 256;

/// Which are meant, as a clause; the values are always `$1` to `$4`.
const WANTED: &str = "($1::text IS NULL OR l.name = $1) AND ($2::text IS NULL OR l.topic = $2) AND ($3::text IS NULL OR l.id = $3) \
                      AND ($4::bigint IS NULL OR l.number <= $4) ORDER BY l.number LIMIT $5::bigint";

fn values(filter: &DeadLetterFilter, last: Option<i64>, limit: usize) -> Values {
    Values::default()
        .and(filter.subscription.as_ref().map(Name::to_string))
        .and(filter.topic.clone())
        .and(filter.id.as_ref().map(ToString::to_string))
        .and(last)
        .and((limit > 0).then(|| i64::try_from(limit).unwrap_or(i64::MAX)))
}

/// One number.
async fn number(db: &Db, sql: &str) -> Result<i64, Fault> {
    let rows = db.run(&db.sql(sql), Values::default()).await?;
    rows.first().map_or(Ok(0), |row| row.try_get(0).map_err(Fault::of))
}

pub(super) async fn count(db: &Db) -> Result<u64, Fault> {
    Ok(u64::try_from(number(db, "SELECT count(*) FROM {s}.dead_letter").await?).unwrap_or(0))
}

pub(super) async fn list(db: &Db, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, Fault> {
    let sql = format!(
        "SELECT l.group_name, l.name, l.attempts, l.failures, l.at_ms, l.id, l.topic, l.version, l.time_ms, l.key, l.attributes, l.payload \
         FROM {{s}}.dead_letter AS l WHERE {WANTED}"
    );
    let rows = db.run(&db.sql(&sql), values(filter, None, filter.limit)).await?;
    let mut letters = Vec::with_capacity(rows.len());
    for row in &rows {
        match letter_of(row).map_err(Fault::of)? {
            Ok(letter) => letters.push(letter),
            Err(error) => tracing::error!(%error, "a stored dead letter cannot be read"),
        }
    }
    Ok(letters)
}

fn letter_of(row: &PgRow) -> Result<Result<DeadLetter>, sqlx::Error> {
    let (group, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
    let attempts: i32 = row.try_get(2)?;
    let failures = failures_of(row.try_get(3)?);
    let at_ms: i64 = row.try_get(4)?;
    let message = message_of(row, 5)?;
    let (attempts, at) = (u32::try_from(attempts).unwrap_or(0), UNIX_EPOCH + Duration::from_millis(at_ms.cast_unsigned()));
    let build = || Ok(DeadLetter { group: Name::new(group)?, subscription: Name::new(name)?, message: message?, attempts, failures, at });
    Ok(build())
}

/// Throws away those meant.
pub(super) async fn purge(db: &Db, filter: &DeadLetterFilter) -> Result<u64, Fault> {
    let sql = format!(
        "WITH meant AS MATERIALIZED (SELECT l.number FROM {{s}}.dead_letter AS l WHERE {WANTED} FOR UPDATE), \
         gone AS (DELETE FROM {{s}}.dead_letter AS l USING meant WHERE l.number = meant.number RETURNING 1) SELECT count(*) FROM gone"
    );
    let rows = db.run(&db.sql(&sql), values(filter, None, filter.limit)).await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(Fault::of)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Hands those meant back to their subscriptions, some at a time; each leaves the letters with the transaction that stores it.
pub(super) async fn replay(db: &Db, lives: &Lives, filter: &DeadLetterFilter) -> Result<u64, Fault> {
    // What dies meanwhile is not meant.
    let last = number(db, "SELECT coalesce(max(number), 0) FROM {s}.dead_letter").await?;
    let sql = db.sql(&include_str!("replay.sql").replace("{wanted}", WANTED));
    let mut total = 0;
    loop {
        let left = if filter.limit == 0 { REPLAY_MAX } else { REPLAY_MAX.min(filter.limit - total) };
        let changing = lives.changing();
        let rows = db.run(&sql, values(filter, Some(last), left)).await?;
        let mut given: BTreeMap<i32, Given> = BTreeMap::new();
        for row in &rows {
            let subscription: i32 = row.try_get(0).map_err(Fault::of)?;
            let given = given.entry(subscription).or_default();
            given.ready += 1;
            given.bytes += row.try_get::<i64, _>(1).map_err(Fault::of)?;
        }
        lives.given(&given);
        drop(changing);
        lives.published(given.keys().copied());
        total += rows.len();
        if rows.len() < left || (filter.limit > 0 && total >= filter.limit) {
            return Ok(total as u64);
        }
    }
}
