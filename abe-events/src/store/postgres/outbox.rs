//! Rows of the outbox: written in somebody's transaction, read by the relay.

use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use sqlx::{PgConnection, Row as _};

use super::super::first::Puts;
use super::super::stored::Row;
use super::super::{BACKLOG_COUNTED_MAX, Backlog, Kind, Waiting, error, within};
use super::statements::Statements;
use super::{PostgresStore, not_stored};
use crate::error::{ErrorKind, Result};

/// How many bytes of payload are read at once, unless one message alone has more.
const BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) async fn insert(connection: &mut PgConnection, statements: &Statements, rows: Vec<Row>) -> Result<()> {
    let (mut ids, mut topics, mut versions, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut attributes, mut payloads, mut delays) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        ids.push(row.id);
        topics.push(row.topic);
        versions.push(row.version);
        times.push(row.time_ms);
        keys.push(row.key.map(String::into_bytes));
        attributes.push(row.attributes);
        payloads.push(Vec::from(row.payload));
        delays.push(row.delay_ms);
    }
    let insert = sqlx::query(statements.publish.clone()).bind(ids).bind(topics).bind(versions).bind(times);
    let insert = insert.bind(keys).bind(attributes).bind(payloads).bind(delays);
    insert.execute(connection).await.map_err(not_stored)?;
    Ok(())
}

impl Puts for PostgresStore {
    fn put(&self, rows: Vec<Row>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Postgres, ErrorKind::Timeout, async move {
            // A commit of its own, so that a reply that is lost is told from a statement that failed.
            let mut tx = self.pool.begin().await.map_err(not_stored)?;
            insert(&mut tx, &self.statements, rows).await?;
            tx.commit().await.map_err(|error| error::of_commit(Kind::Postgres, &error))
        }))
    }
}

pub(super) async fn waiting(store: &PostgresStore, max: u32) -> Result<Vec<Waiting>> {
    let mut found = sqlx::query(store.statements.waiting.clone()).bind(i64::from(max)).fetch(&store.pool);
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.try_next().await.map_err(not_stored)? {
        let message = read(&row)?;
        bytes += message.row.payload.len();
        waiting.push(message);
        if bytes >= BYTES_MAX {
            break;
        }
    }
    Ok(waiting)
}

fn read(row: &sqlx::postgres::PgRow) -> Result<Waiting> {
    let columns = || -> Result<_, sqlx::Error> {
        let key: Option<Vec<u8>> = row.try_get(6)?;
        let message = Row {
            id: row.try_get(2)?,
            topic: row.try_get(3)?,
            version: row.try_get(4)?,
            time_ms: row.try_get(5)?,
            key: None,
            attributes: row.try_get(7)?,
            payload: row.try_get::<Vec<u8>, _>(8)?.into(),
            delay_ms: row.try_get(9)?,
        };
        let attempts: i32 = row.try_get(1)?;
        Ok((Waiting { seq: row.try_get(0)?, attempts: attempts.cast_unsigned(), row: message }, key))
    };
    let (mut waiting, key) = columns().map_err(not_stored)?;
    match key.map(String::from_utf8).transpose() {
        Ok(key) => waiting.row.key = key,
        // Written by somebody else: no message, and refused as such, so that it holds up no other.
        Err(_) => waiting.row.topic.clear(),
    }
    Ok(waiting)
}

pub(super) async fn backlog(store: &PostgresStore) -> Result<Backlog> {
    let count = sqlx::query_as(store.statements.backlog.clone()).bind(BACKLOG_COUNTED_MAX);
    let (pending, refused, oldest): (i64, i64, i64) = count.fetch_one(&store.pool).await.map_err(not_stored)?;
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(Backlog { pending: number(pending), refused: number(refused), oldest: Duration::from_millis(number(oldest)) })
}
