//! The relay's lane: who has it, and what only he may do.

use std::time::Duration;

use super::super::{Refused, millis};
use super::{PostgresStore, not_stored};
use crate::error::Result;

pub(super) async fn take_lane(store: &PostgresStore, lane: i64, lease: Duration) -> Result<Option<i64>> {
    let take = sqlx::query_scalar(store.statements.take_lane.clone()).bind(lane).bind(millis(lease));
    take.fetch_optional(&store.pool).await.map_err(not_stored)
}

pub(super) async fn keep_lane(store: &PostgresStore, lane: i64, token: i64, lease: Duration) -> Result<bool> {
    let keep = sqlx::query(store.statements.keep_lane.clone()).bind(lane).bind(token).bind(millis(lease));
    Ok(keep.execute(&store.pool).await.map_err(not_stored)?.rows_affected() == 1)
}

pub(super) async fn leave_lane(store: &PostgresStore, lane: i64, token: i64) -> Result<()> {
    let leave = sqlx::query(store.statements.leave_lane.clone()).bind(lane).bind(token);
    leave.execute(&store.pool).await.map_err(not_stored)?;
    Ok(())
}

pub(super) async fn settle(
    store: &PostgresStore,
    (lane, token, lease): (i64, i64, Duration),
    sent: Vec<i64>,
    refused: Vec<Refused>,
) -> Result<bool> {
    let (mut seqs, mut afters, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for one in refused {
        seqs.push(one.seq);
        afters.push(millis(one.after));
        // A text of the server's may hold no zero.
        errors.push(one.error.replace('\0', "\u{fffd}"));
    }
    let settle = sqlx::query_scalar(store.statements.settle.clone()).bind(lane).bind(token).bind(millis(lease));
    let settle = settle.bind(sent).bind(seqs).bind(afters).bind(errors);
    let kept: i64 = settle.fetch_one(&store.pool).await.map_err(not_stored)?;
    Ok(kept == 1)
}
