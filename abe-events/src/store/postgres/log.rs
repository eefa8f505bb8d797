//! Events and their fates, as rows.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::log::{Fate, LogFilter, LogStatus, LoggedEvent, NewCount, NewEvent, NewFate, Records, fate, logged};
use super::super::stored::Row;
use super::super::{Kind, millis, within};
use super::{PostgresStore, not_stored};
use crate::error::{Error, ErrorKind, Result};

impl Records for PostgresStore {
    fn log_events(&self, of: Vec<NewEvent>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, events(self, of)))
    }

    fn log_counts(&self, of: Vec<NewCount>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, counts(self, of)))
    }

    fn log_withdraw(&self, ids: Vec<String>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, withdraw(self, ids)))
    }

    fn log_fates(&self, subscriber: i64, of: Vec<NewFate>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, fates(self, subscriber, of)))
    }

    fn log_find(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<LoggedEvent>>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, find(self, filter)))
    }

    fn log_prune(&self, older: Duration, max: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, prune(self, older, max)))
    }
}

async fn events(store: &PostgresStore, events: Vec<NewEvent>) -> Result<()> {
    let (mut ids, mut topics, mut versions, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut attributes, mut payloads, mut correlations) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for NewEvent { row, correlation } in events {
        ids.push(row.id);
        topics.push(row.topic);
        versions.push(row.version);
        times.push(row.time_ms);
        keys.push(row.key.map(String::into_bytes));
        attributes.push(row.attributes);
        payloads.push(Vec::from(row.payload));
        correlations.push(correlation);
    }
    let insert = sqlx::query(store.statements.log_events.clone()).bind(ids).bind(topics).bind(versions).bind(times);
    let insert = insert.bind(keys).bind(attributes).bind(payloads).bind(correlations);
    insert.execute(&store.pool).await.map_err(not_stored)?;
    Ok(())
}

async fn counts(store: &PostgresStore, counts: Vec<NewCount>) -> Result<()> {
    let (ids, counts): (Vec<String>, Vec<i64>) = counts.into_iter().map(|count| (count.id, count.deliveries)).unzip();
    sqlx::query(store.statements.log_counts.clone()).bind(ids).bind(counts).execute(&store.pool).await.map_err(not_stored)?;
    Ok(())
}

async fn withdraw(store: &PostgresStore, ids: Vec<String>) -> Result<()> {
    sqlx::query(store.statements.log_withdraw.clone()).bind(ids).execute(&store.pool).await.map_err(not_stored)?;
    Ok(())
}

async fn fates(store: &PostgresStore, subscriber: i64, fates: Vec<NewFate>) -> Result<bool> {
    let wanted = fates.len() as u64;
    let (mut ids, mut statuses, mut retries, mut errors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for fate in fates {
        ids.push(fate.id);
        statuses.push(fate.status.number());
        retries.push(i32::try_from(fate.retries).unwrap_or(i32::MAX));
        errors.push(fate.error);
    }
    let note = sqlx::query(store.statements.log_fates.clone()).bind(subscriber).bind(ids).bind(statuses).bind(retries).bind(errors);
    Ok(note.execute(&store.pool).await.map_err(not_stored)?.rows_affected() == wanted)
}

async fn find(store: &PostgresStore, filter: LogFilter) -> Result<Vec<LoggedEvent>> {
    // Planned anew for each question, by what it asks for.
    let ask = sqlx::query(store.statements.log_find.clone()).persistent(false).bind(filter.after.cast_signed());
    let ask = ask.bind(filter.id.map(|id| id.to_string())).bind(filter.topic).bind(filter.correlation.map(|id| id.to_string()));
    let ask = ask.bind(filter.since.map(millis_of)).bind(filter.until.map(millis_of)).bind(filter.status.map(LogStatus::number));
    let rows = ask.bind(i64::try_from(filter.limit).unwrap_or(i64::MAX)).fetch_all(&store.pool).await.map_err(not_stored)?;
    let mut events = rows.iter().map(read).collect::<Result<BTreeMap<i64, LoggedEvent>>>()?;
    let seqs: Vec<i64> = events.keys().copied().collect();
    let rows = sqlx::query(store.statements.log_fates_of.clone()).bind(seqs).fetch_all(&store.pool).await.map_err(not_stored)?;
    for row in &rows {
        let (event, fate) = read_fate(row)?;
        if let Some(event) = events.get_mut(&event) {
            event.fates.push(fate);
        }
    }
    Ok(events.into_values().collect())
}

fn read(row: &PgRow) -> Result<(i64, LoggedEvent)> {
    let columns = || -> Result<_, sqlx::Error> {
        let key: Option<Vec<u8>> = row.try_get(5)?;
        let message = Row {
            id: row.try_get(1)?,
            topic: row.try_get(2)?,
            version: row.try_get(3)?,
            time_ms: row.try_get(4)?,
            key: None,
            attributes: row.try_get(6)?,
            payload: row.try_get::<Vec<u8>, _>(7)?.into(),
            delay_ms: 0,
        };
        Ok((message, key, row.try_get(0)?, row.try_get::<i32, _>(10)?, row.try_get(8)?, row.try_get(9)?))
    };
    let (mut message, key, seq, status, stored_ms, deliveries) = columns().map_err(not_stored)?;
    let malformed = |_| Error::new(ErrorKind::Decode, "PostgreSQL: a key of the event log is no UTF-8");
    message.key = key.map(String::from_utf8).transpose().map_err(malformed)?;
    Ok((seq, logged(seq, &message, i16::try_from(status).unwrap_or_default(), stored_ms, deliveries)?))
}

fn read_fate(row: &PgRow) -> Result<(i64, Fate)> {
    let columns = || -> Result<_, sqlx::Error> {
        let name = (row.try_get(1)?, row.try_get(2)?);
        Ok((row.try_get(0)?, name, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?, row.try_get(6)?))
    };
    let (event, name, status, retries, error, at_ms) = columns().map_err(not_stored)?;
    Ok((event, fate(name, status, retries, error, at_ms)?))
}

fn millis_of(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
}

async fn prune(store: &PostgresStore, older: Duration, max: u32) -> Result<u64> {
    let prune = sqlx::query_scalar(store.statements.log_prune.clone()).bind(millis(older)).bind(i64::from(max));
    let count: i64 = prune.fetch_one(&store.pool).await.map_err(not_stored)?;
    Ok(u64::try_from(count).unwrap_or_default())
}
