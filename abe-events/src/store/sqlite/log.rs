//! Events and their fates, as rows.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::super::log::{Fate, LogFilter, LogStatus, LoggedEvent, NewCount, NewEvent, NewFate, Records, fate, logged};
use super::super::stored::Row;
use super::super::{Kind, millis, within};
use super::{SqliteStore, json, not_stored, now};
use crate::error::{ErrorKind, Result};

/// Rows of one statement: each has ten values, and a statement has room for 32,766.
const ROWS_MAX: usize = 1_000;

impl Records for SqliteStore {
    fn log_events(&self, of: Vec<NewEvent>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, events(self, of)))
    }

    fn log_counts(&self, of: Vec<NewCount>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, counts(self, of)))
    }

    fn log_withdraw(&self, ids: Vec<String>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, withdraw(self, ids)))
    }

    fn log_fates(&self, subscriber: i64, of: Vec<NewFate>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, fates(self, subscriber, of)))
    }

    fn log_find(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<LoggedEvent>>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, find(self, filter)))
    }

    fn log_prune(&self, older: Duration, max: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, prune(self, older, max)))
    }
}

async fn events(store: &SqliteStore, events: Vec<NewEvent>) -> Result<()> {
    let mut write = store.write(&store.pool).await?;
    insert(&mut write.tx, &events).await?;
    write.commit().await
}

async fn insert(connection: &mut SqliteConnection, events: &[NewEvent]) -> Result<()> {
    for events in events.chunks(ROWS_MAX) {
        let mut insert =
            QueryBuilder::new("INSERT INTO abe_event (id, topic, version, time_ms, key, attributes, payload, correlation, stored_ms) ");
        insert.push_values(events, |mut values, NewEvent { row, correlation }| {
            values.push_bind(row.id.as_str()).push_bind(row.topic.as_str()).push_bind(row.version).push_bind(row.time_ms);
            values.push_bind(row.key.as_deref()).push_bind(row.attributes.as_deref()).push_bind(&row.payload[..]);
            values.push_bind(correlation.as_str()).push(now!());
        });
        // The same id again is the same event.
        insert.push(" ON CONFLICT (id) DO NOTHING");
        insert.build().persistent(events.len() == 1).execute(&mut *connection).await.map_err(not_stored)?;
    }
    Ok(())
}

async fn counts(store: &SqliteStore, counts: Vec<NewCount>) -> Result<()> {
    let list = json(&counts.iter().map(|count| (&count.id, count.deliveries)).collect::<Vec<_>>())?;
    let _place = store.place().await?;
    let note = "UPDATE abe_event SET deliveries = coalesce(deliveries, 0) + one.value ->> 1 FROM json_each(?1) AS one \
                WHERE abe_event.id = one.value ->> 0";
    sqlx::query(note).bind(list).execute(&store.quick).await.map_err(not_stored)?;
    Ok(())
}

async fn withdraw(store: &SqliteStore, ids: Vec<String>) -> Result<()> {
    let list = json(&ids)?;
    let _place = store.place().await?;
    // Published before under the same id, it stays.
    let withdraw = "DELETE FROM abe_event WHERE id IN (SELECT value FROM json_each(?1)) AND deliveries IS NULL \
                    AND NOT EXISTS (SELECT 1 FROM abe_fate WHERE abe_fate.event = abe_event.seq)";
    sqlx::query(withdraw).bind(list).execute(&store.quick).await.map_err(not_stored)?;
    Ok(())
}

async fn fates(store: &SqliteStore, subscriber: i64, fates: Vec<NewFate>) -> Result<bool> {
    let list = fates.iter().map(|fate| (&fate.id, fate.status.number(), fate.retries, &fate.error)).collect::<Vec<_>>();
    let list = json(&list)?;
    let _place = store.place().await?;
    let noted = sqlx::query(concat!(
        "INSERT INTO abe_fate (event, subscriber, status, retries, error, at_ms) ",
        "SELECT abe_event.seq, ?1, one.value ->> 1, one.value ->> 2, one.value ->> 3, ",
        now!(),
        " ",
        "FROM json_each(?2) AS one JOIN abe_event ON abe_event.id = one.value ->> 0 WHERE true ",
        "ON CONFLICT (event, subscriber) DO UPDATE SET status = excluded.status, retries = excluded.retries, ",
        "error = coalesce(excluded.error, abe_fate.error), at_ms = excluded.at_ms"
    ))
    .bind(subscriber)
    .bind(list)
    .execute(&store.quick)
    .await
    .map_err(not_stored)?;
    Ok(noted.rows_affected() == fates.len() as u64)
}

/// Where an event stands in all.
const STATUS: &str = "CASE WHEN EXISTS (SELECT 1 FROM abe_fate WHERE event = seq AND status = 2) THEN 2 \
    WHEN NOT EXISTS (SELECT 1 FROM abe_fate WHERE event = seq AND status = 0) \
    AND (SELECT count(*) FROM abe_fate WHERE event = seq AND status = 1) >= coalesce(deliveries, 1) THEN 1 ELSE 0 END";

async fn find(store: &SqliteStore, filter: LogFilter) -> Result<Vec<LoggedEvent>> {
    let rows = select(&filter).build().fetch_all(&store.pool).await.map_err(not_stored)?;
    let mut events = BTreeMap::new();
    for row in rows {
        let read = || -> Result<(i64, Row, i16, i64, Option<i64>), sqlx::Error> {
            let message = Row {
                id: row.try_get(1)?,
                topic: row.try_get(2)?,
                version: row.try_get(3)?,
                time_ms: row.try_get(4)?,
                key: row.try_get(5)?,
                attributes: row.try_get(6)?,
                payload: row.try_get::<Vec<u8>, _>(7)?.into(),
                delay_ms: 0,
            };
            Ok((row.try_get(0)?, message, row.try_get(10)?, row.try_get(8)?, row.try_get(9)?))
        };
        let (seq, message, status, stored_ms, deliveries) = read().map_err(not_stored)?;
        events.insert(seq, logged(seq, &message, status, stored_ms, deliveries)?);
    }
    let seqs = json(&events.keys().collect::<Vec<_>>())?;
    let fates = "SELECT event, group_name, name, status, retries, error, at_ms FROM abe_fate \
                 JOIN abe_subscriber ON number = subscriber WHERE event IN (SELECT value FROM json_each(?1)) ORDER BY event, number";
    let rows = sqlx::query(fates).bind(seqs).fetch_all(&store.pool).await.map_err(not_stored)?;
    for row in &rows {
        let (event, fate) = read_fate(row)?;
        if let Some(event) = events.get_mut(&event) {
            event.fates.push(fate);
        }
    }
    Ok(events.into_values().collect())
}

fn read_fate(row: &SqliteRow) -> Result<(i64, Fate)> {
    let columns = || -> Result<_, sqlx::Error> {
        let name = (row.try_get(1)?, row.try_get(2)?);
        Ok((row.try_get(0)?, name, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?, row.try_get(6)?))
    };
    let (event, name, status, retries, error, at_ms) = columns().map_err(not_stored)?;
    Ok((event, fate(name, status, retries, error, at_ms)?))
}

fn select(filter: &LogFilter) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new("SELECT seq, id, topic, version, time_ms, key, attributes, payload, stored_ms, deliveries, ");
    select.push(STATUS).push(" FROM abe_event WHERE seq > ").push_bind(filter.after.cast_signed());
    if let Some(id) = &filter.id {
        select.push(" AND id = ").push_bind(id.to_string());
    }
    if let Some(topic) = &filter.topic {
        select.push(" AND topic = ").push_bind(topic.clone());
    }
    if let Some(correlation) = &filter.correlation {
        select.push(" AND correlation = ").push_bind(correlation.to_string());
    }
    if let Some(since) = filter.since {
        select.push(" AND stored_ms >= ").push_bind(millis_of(since));
    }
    if let Some(until) = filter.until {
        select.push(" AND stored_ms < ").push_bind(millis_of(until));
    }
    if let Some(status) = filter.status {
        if status == LogStatus::Failed {
            // By its index: there are few of them.
            select.push(" AND seq IN (SELECT event FROM abe_fate WHERE status = 2)");
        } else {
            select.push(" AND ").push(STATUS).push(" = ").push_bind(status.number());
        }
    }
    select.push(" ORDER BY seq LIMIT ").push_bind(i64::try_from(filter.limit).unwrap_or(i64::MAX));
    select
}

fn millis_of(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
}

async fn prune(store: &SqliteStore, older: Duration, max: u32) -> Result<u64> {
    let old = concat!("SELECT seq FROM abe_event WHERE stored_ms <= ", now!(), " - ?1 ORDER BY stored_ms LIMIT ?2");
    let seqs: Vec<i64> = sqlx::query_scalar(old).bind(millis(older)).bind(max).fetch_all(&store.pool).await.map_err(not_stored)?;
    if seqs.is_empty() {
        return Ok(0);
    }
    let list = json(&seqs)?;
    let mut write = store.write(&store.quick).await?;
    for remove in [
        "DELETE FROM abe_fate WHERE event IN (SELECT value FROM json_each(?1))",
        "DELETE FROM abe_event WHERE seq IN (SELECT value FROM json_each(?1))",
    ] {
        sqlx::query(remove).bind(&list).execute(&mut *write.tx).await.map_err(not_stored)?;
    }
    write.commit().await?;
    Ok(seqs.len() as u64)
}
