//! Dead letters: found, counted, handed back, thrown away.

use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};

use super::super::failures::failures_of;
use super::super::stored::Stored;
use super::super::{DeadLetter, DeadLetterFilter};
use super::claim::message_of;
use super::error::Fault;
use super::publish::{enqueue, insert_message};
use super::state::Tx;
use crate::error::Result;
use crate::topic::Name;

/// How many letters one transaction hands back.
const REPLAY_MAX: usize = 256;

/// A filter as it can be handed to the writer.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    clause: String,
    values: Vec<Value>,
    limit: usize,
}

impl Wanted {
    pub(super) fn of(filter: &DeadLetterFilter) -> Self {
        let mut wanted = Self { clause: "number > 0".to_owned(), values: Vec::new(), limit: filter.limit };
        wanted.and("name", filter.subscription.as_ref().map(Name::to_string));
        wanted.and("topic", filter.topic.clone());
        wanted.and("id", filter.id.as_ref().map(ToString::to_string));
        wanted
    }

    /// Column names are ours, values are bound.
    fn and(&mut self, column: &str, value: Option<String>) {
        if let Some(value) = value {
            self.values.push(Value::Text(value));
            self.clause.push_str(&format!(" AND {column} = ?{}", self.values.len()));
        }
    }

    /// The same, up to a number; what dies meanwhile is not meant.
    fn up_to(mut self, number: i64) -> Self {
        self.clause.push_str(&format!(" AND number <= {number}"));
        self
    }

    fn sql(&self, what: &str, most: usize) -> String {
        let limit = [self.limit, most].into_iter().filter(|limit| *limit > 0).min();
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1));
        format!("SELECT {what} FROM abe_dead_letter WHERE {} ORDER BY number LIMIT {limit}", self.clause)
    }

    fn numbers(&self, tx: &Tx<'_>, most: usize) -> Result<Vec<i64>, Fault> {
        let mut statement = tx.connection.prepare(&self.sql("number", most))?;
        statement.query_map(params_from_iter(&self.values), |row| row.get(0))?.collect()
    }
}

pub(super) fn count(tx: &Tx<'_>) -> Result<u64, Fault> {
    tx.connection.prepare_cached("SELECT count(*) FROM abe_dead_letter")?.query_row([], |row| row.get(0))
}

pub(super) fn list(tx: &Tx<'_>, wanted: &Wanted) -> Result<Vec<DeadLetter>, Fault> {
    let what = "group_name, name, attempts, failures, at_ms, id, topic, version, time_ms, key, attributes, payload";
    let mut statement = tx.connection.prepare(&wanted.sql(what, 0))?;
    let mut rows = statement.query(params_from_iter(&wanted.values))?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        match letter_of(row)? {
            Ok(letter) => letters.push(letter),
            Err(error) => tracing::error!(%error, "a stored dead letter cannot be read"),
        }
    }
    Ok(letters)
}

fn letter_of(row: &Row<'_>) -> Result<Result<DeadLetter>, Fault> {
    let (group, name): (String, String) = (row.get(0)?, row.get(1)?);
    let attempts = row.get(2)?;
    let failures = failures_of(row.get_ref(3)?.as_str()?);
    let at_ms: i64 = row.get(4)?;
    let message = message_of(row, 5)?;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at_ms.cast_unsigned());
    let build = || Ok(DeadLetter { group: Name::new(&group)?, subscription: Name::new(&name)?, message: message?, attempts, failures, at });
    Ok(build())
}

/// Throws away those meant.
pub(super) fn purge(tx: &Tx<'_>, wanted: &Wanted) -> Result<u64, Fault> {
    let sql = format!("DELETE FROM abe_dead_letter WHERE number IN ({})", wanted.sql("number", 0));
    let removed = tx.connection.execute(&sql, params_from_iter(&wanted.values))?;
    Ok(removed as u64)
}

/// The last there is.
pub(super) fn last(tx: &Tx<'_>) -> Result<i64, Fault> {
    tx.connection.prepare_cached("SELECT coalesce(max(number), 0) FROM abe_dead_letter")?.query_row([], |row| row.get(0))
}

/// Hands some of those meant back to their subscriptions: answers how many, and whether there may be more.
pub(super) fn replay(tx: &mut Tx<'_>, wanted: &Wanted, left: usize, last: i64) -> Result<(usize, bool), Fault> {
    let wanted = Wanted { limit: left, ..wanted.clone() }.up_to(last);
    let numbers = wanted.numbers(tx, REPLAY_MAX)?;
    let mut replayed = 0;
    for number in &numbers {
        let sql = "SELECT group_name, name, id, topic, version, time_ms, key, attributes, payload FROM abe_dead_letter WHERE number = ?1";
        let (group, name, stored) = tx.connection.prepare_cached(sql)?.query_row([number], |row| {
            let (group, name): (String, String) = (row.get(0)?, row.get(1)?);
            Ok((group, name, stored_of(row)?))
        })?;
        // Its subscription is never removed; a row somebody else took away leaves the letter where it is.
        let (Some(subscription), Some(stored)) = (tx.state.find(&group, &name), stored) else { continue };
        let seq = insert_message(tx, &stored, 1)?;
        enqueue(tx, subscription, seq, &stored, std::time::Duration::ZERO)?;
        tx.connection.prepare_cached("DELETE FROM abe_dead_letter WHERE number = ?1")?.execute(params![number])?;
        replayed += 1;
    }
    Ok((replayed, numbers.len() == REPLAY_MAX && replayed > 0))
}

/// The letter's message as it is stored, byte by byte; `None` for one with a topic that is none.
fn stored_of(row: &Row<'_>) -> Result<Option<Stored>, Fault> {
    let topic: String = row.get(3)?;
    let Ok(topic) = crate::topic::Topic::new(&topic) else { return Ok(None) };
    let key: Option<String> = row.get(6)?;
    Ok(Some(Stored {
        id: row.get(2)?,
        topic,
        version: row.get(4)?,
        time_ms: row.get(5)?,
        key: key.map(Into::into),
        attributes: row.get(7)?,
        payload: row.get::<_, Vec<u8>>(8)?.into(),
    }))
}
