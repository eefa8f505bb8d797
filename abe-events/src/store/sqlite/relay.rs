//! The relay's lane: who has it, and what only he may do.

use std::time::Duration;

use super::super::{Refused, millis};
use super::{SqliteStore, json, not_stored, now};
use crate::error::Result;
use crate::mutant;

pub(super) async fn take_lane(store: &SqliteStore, lane: i64, lease: Duration) -> Result<Option<i64>> {
    // Who only waits should not keep others from writing.
    let taken = concat!("SELECT 1 FROM abe_relay WHERE lane = ?1 AND until_ms > ", now!());
    let taken: Option<i64> = sqlx::query_scalar(taken).bind(lane).fetch_optional(&store.pool).await.map_err(not_stored)?;
    if taken.is_some() {
        return Ok(None);
    }
    let _place = store.place().await?;
    let take = concat!(
        "INSERT INTO abe_relay (lane, token, until_ms) VALUES (?1, 1, ",
        now!(),
        " + ?2) ",
        "ON CONFLICT (lane) DO UPDATE SET token = abe_relay.token + 1, until_ms = excluded.until_ms ",
        "WHERE abe_relay.until_ms <= ",
        now!(),
        " RETURNING token"
    );
    sqlx::query_scalar(take).bind(lane).bind(millis(lease)).fetch_optional(&store.quick).await.map_err(not_stored)
}

/// Whose token holds; all of them in a build that a test is to catch.
const KEEP: &str = concat!("UPDATE abe_relay SET until_ms = ", now!(), " + ?3 WHERE lane = ?1 AND token = ?2");
const KEEP_ANY: &str = concat!("UPDATE abe_relay SET until_ms = ", now!(), " + ?3 WHERE lane = ?1 AND token >= ?2");

fn keep() -> &'static str {
    if mutant::is("relay-fence-ignored") { KEEP_ANY } else { KEEP }
}

pub(super) async fn keep_lane(store: &SqliteStore, lane: i64, token: i64, lease: Duration) -> Result<bool> {
    let _place = store.place().await?;
    let kept = sqlx::query(keep()).bind(lane).bind(token).bind(millis(lease)).execute(&store.quick).await.map_err(not_stored)?;
    Ok(kept.rows_affected() == 1)
}

pub(super) async fn leave_lane(store: &SqliteStore, lane: i64, token: i64) -> Result<()> {
    let _place = store.place().await?;
    let leave = "UPDATE abe_relay SET until_ms = 0 WHERE lane = ?1 AND token = ?2";
    sqlx::query(leave).bind(lane).bind(token).execute(&store.quick).await.map_err(not_stored)?;
    Ok(())
}

pub(super) async fn settle(
    store: &SqliteStore,
    (lane, token, lease): (i64, i64, Duration),
    sent: Vec<i64>,
    refused: Vec<Refused>,
) -> Result<bool> {
    // Undone by a power failure, it is published again: the broker has it, and its duplicates are known by their ids.
    let mut write = store.write(&store.quick).await?;
    let kept = sqlx::query(keep()).bind(lane).bind(token).bind(millis(lease)).execute(&mut *write.tx).await.map_err(not_stored)?;
    if kept.rows_affected() == 0 {
        return Ok(false);
    }
    if !sent.is_empty() {
        let remove = "DELETE FROM abe_outbox WHERE seq IN (SELECT value FROM json_each(?1))";
        sqlx::query(remove).bind(json(&sent)?).execute(&mut *write.tx).await.map_err(not_stored)?;
    }
    for one in refused {
        let put_back = concat!("UPDATE abe_outbox SET attempts = attempts + 1, retry_ms = ", now!(), " + ?2, error = ?3 WHERE seq = ?1");
        sqlx::query(put_back).bind(one.seq).bind(millis(one.after)).bind(one.error).execute(&mut *write.tx).await.map_err(not_stored)?;
    }
    write.commit().await?;
    Ok(true)
}
