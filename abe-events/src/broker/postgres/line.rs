//! Order per key: who stands behind another is not looked at until the other has ended.
//!
//! That no message is handed out while an earlier one of its key is there is checked by the claim itself. The mark `lined`
//! only spares it from looking at those behind, however many they are. It is set by whoever publishes and taken off by
//! whoever settles, each after looking; as neither sees what the other has not committed, both look again after their
//! commit, and the later of the two sees everything. Who dies in between is made up for by [`Lines::sweep`].

use std::collections::BTreeSet;

use sqlx::Row;

use super::db::{Db, Sql, Values};

/// The statements.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    advance: Sql,
    stuck: Sql,
}

impl Lines {
    pub(super) fn new(db: &Db) -> Self {
        Self { advance: db.sql(ADVANCE), stuck: db.sql(STUCK) }
    }

    /// Lets the first of each line go, if it has become the first; answers whose it was.
    ///
    /// A failure is no harm: the sweep finds them.
    pub(super) async fn advance(&self, db: &Db, lines: Vec<(i32, Vec<u8>)>) -> BTreeSet<i32> {
        // In one order, so that two of us wait for each other in none.
        let lines: BTreeSet<(i32, Vec<u8>)> = lines.into_iter().collect();
        let (subscriptions, keys): (Vec<i32>, Vec<Vec<u8>>) = lines.into_iter().unzip();
        match db.run(&self.advance, Values::default().and(subscriptions).and(keys)).await {
            Ok(rows) => rows.iter().filter_map(|row| row.try_get(0).ok()).collect(),
            Err(fault) => {
                tracing::debug!(error = %fault.failed(), "lines wait for the next look at them");
                BTreeSet::new()
            }
        }
    }

    /// Lets go who stands first in a line and was not told; answers whether there was anyone.
    pub(super) async fn sweep(&self, db: &Db, subscription: i32) -> bool {
        let stuck = match db.run(&self.stuck, Values::default().and(subscription)).await {
            Ok(rows) => rows.iter().filter_map(|row| Some((subscription, row.try_get(0).ok()?))).collect::<Vec<_>>(),
            Err(_) => return false,
        };
        !stuck.is_empty() && !self.advance(db, stuck).await.is_empty()
    }
}

const ADVANCE: &str = "\
WITH first AS MATERIALIZED (
    SELECT f.at FROM unnest($1::int[], $2::bytea[]) AS u (subscription, line), LATERAL (
        SELECT e.ctid AS at, e.lined FROM {s}.delivery AS e
        WHERE e.subscription = u.subscription AND e.line = u.line ORDER BY e.place LIMIT 1) AS f
    WHERE f.lined
)
-- By where the row is: a join by its key may be planned to read the queue once for each line. Nobody moves it but who advances it.
UPDATE {s}.delivery AS d SET lined = false FROM first AS f WHERE d.ctid = f.at AND d.lined RETURNING d.subscription";

/// From key to key by the index, one step each however long its line is.
const STUCK: &str = "\
WITH RECURSIVE first (line, lined) AS (
    (SELECT line, lined FROM {s}.delivery WHERE subscription = $1 AND line IS NOT NULL ORDER BY line, place LIMIT 1)
    UNION ALL
    SELECT n.line, n.lined FROM first AS f, LATERAL (
        SELECT line, lined FROM {s}.delivery WHERE subscription = $1 AND line > f.line ORDER BY line, place LIMIT 1) AS n
)
SELECT line FROM first WHERE lined LIMIT 1000";
