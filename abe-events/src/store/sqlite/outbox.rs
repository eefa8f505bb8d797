//! Rows of the outbox: written in somebody's transaction, read by the relay.

use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use super::super::first::Puts;
use super::super::stored::Row;
use super::super::{BACKLOG_COUNTED_MAX, Backlog, Kind, Waiting, within};
use super::{SqliteStore, not_stored, now};
use crate::error::{ErrorKind, Result};

/// Rows of one statement: each has nine values, and a statement has room for 32,766.
const ROWS_MAX: usize = 1_000;

/// How many bytes of payload are read at once, unless one message alone has more.
const BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) async fn insert(connection: &mut SqliteConnection, rows: &[Row]) -> Result<()> {
    for rows in rows.chunks(ROWS_MAX) {
        let mut insert =
            QueryBuilder::new("INSERT INTO abe_outbox (id, topic, version, time_ms, key, attributes, payload, delay_ms, stored_ms) ");
        insert.push_values(rows, |mut values, row| {
            values.push_bind(row.id.as_str()).push_bind(row.topic.as_str()).push_bind(row.version).push_bind(row.time_ms);
            values.push_bind(row.key.as_deref()).push_bind(row.attributes.as_deref()).push_bind(&row.payload[..]);
            values.push_bind(row.delay_ms).push(now!());
        });
        // Of one row it is always the same; of others it would only push better ones out of the cache.
        insert.build().persistent(rows.len() == 1).execute(&mut *connection).await.map_err(not_stored)?;
    }
    Ok(())
}

impl Puts for SqliteStore {
    fn put(&self, rows: Vec<Row>) -> BoxFuture<'_, Result<()>> {
        Box::pin(within(Kind::Sqlite, ErrorKind::Timeout, async move {
            let mut write = self.write(&self.pool).await?;
            insert(&mut write.tx, &rows).await?;
            write.commit().await
        }))
    }
}

pub(super) async fn waiting(store: &SqliteStore, max: u32) -> Result<Vec<Waiting>> {
    let select = concat!(
        "SELECT seq, attempts, id, topic, version, time_ms, key, attributes, payload, delay_ms FROM abe_outbox AS one ",
        "WHERE retry_ms <= ",
        now!(),
        " AND (key IS NULL OR NOT EXISTS (SELECT 1 FROM abe_outbox AS earlier ",
        "WHERE earlier.attempts > 0 AND earlier.key = one.key AND earlier.seq < one.seq AND earlier.retry_ms > ",
        now!(),
        ")) ",
        "ORDER BY seq LIMIT ?1"
    );
    let mut found = sqlx::query(select).bind(max).fetch(&store.pool);
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.try_next().await.map_err(not_stored)? {
        let read = || -> Result<Waiting, sqlx::Error> {
            let message = Row {
                id: row.try_get(2)?,
                topic: row.try_get(3)?,
                version: row.try_get(4)?,
                time_ms: row.try_get(5)?,
                key: row.try_get(6)?,
                attributes: row.try_get(7)?,
                payload: row.try_get::<Vec<u8>, _>(8)?.into(),
                delay_ms: row.try_get(9)?,
            };
            Ok(Waiting { seq: row.try_get(0)?, attempts: row.try_get(1)?, row: message })
        };
        let message = read().map_err(not_stored)?;
        bytes += message.row.payload.len();
        waiting.push(message);
        if bytes >= BYTES_MAX {
            break;
        }
    }
    Ok(waiting)
}

pub(super) async fn backlog(store: &SqliteStore) -> Result<Backlog> {
    let count = concat!(
        "SELECT count(*), count(*) FILTER (WHERE attempts > 0), coalesce(",
        now!(),
        " - min(stored_ms), 0) ",
        "FROM (SELECT attempts, stored_ms FROM abe_outbox ORDER BY seq LIMIT ?1)"
    );
    let (pending, refused, oldest): (i64, i64, i64) =
        sqlx::query_as(count).bind(BACKLOG_COUNTED_MAX).fetch_one(&store.pool).await.map_err(not_stored)?;
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(Backlog { pending: number(pending), refused: number(refused), oldest: Duration::from_millis(number(oldest)) })
}
