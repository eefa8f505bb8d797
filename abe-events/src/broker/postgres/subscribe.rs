//! Making sure that a subscription exists, as its newest consumer says it should be.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::SubscriptionSpec;
use super::db::Db;
use super::error::Fault;

/// What subscribing came to.
pub(super) enum Subscribed {
    Open(i32),
    /// Its order cannot be changed while deliveries are handed out.
    InUse,
}

/// All in one transaction; a subscription that is as it should be is only read.
pub(super) async fn subscribe(db: &Db, spec: &SubscriptionSpec) -> Result<Subscribed, Fault> {
    let mut wanted: Vec<String> = spec.topics.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    wanted.sort();
    wanted.dedup();
    let mut connection = db.pool.acquire().await.map_err(Fault::Unsent)?;
    let mut tx = connection.begin().await.map_err(Fault::Unsent)?;
    let mut known = find(&mut tx, db, spec).await.map_err(Fault::of)?;
    if known.as_ref().is_none_or(|known| known.ordered != spec.ordered || known.patterns != wanted) {
        // One at a time from here on; what others have changed meanwhile is seen by the next look.
        change_epoch(&mut tx, db).await.map_err(Fault::of)?;
        if known.is_none() {
            let sql = "INSERT INTO {s}.subscription (group_name, name, ordered) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            let insert = sqlx::query(AssertSqlSafe(db.sql(sql))).persistent(false);
            let insert = insert.bind(spec.group.as_str()).bind(spec.name.as_str()).bind(spec.ordered);
            insert.execute(&mut *tx).await.map_err(Fault::of)?;
        }
        known = find(&mut tx, db, spec).await.map_err(Fault::of)?;
    }
    let known = known.ok_or(Fault::Refused(sqlx::Error::RowNotFound))?;
    if known.ordered != spec.ordered && !reorder(&mut tx, db, known.number, spec.ordered).await.map_err(Fault::of)? {
        return Ok(Subscribed::InUse);
    }
    if known.patterns != wanted {
        set_patterns(&mut tx, db, known.number, wanted).await.map_err(Fault::of)?;
    }
    tx.commit().await.map_err(Fault::of)?;
    Ok(Subscribed::Open(known.number))
}

struct Known {
    number: i32,
    ordered: bool,
    patterns: Vec<String>,
}

async fn find(tx: &mut PgConnection, db: &Db, spec: &SubscriptionSpec) -> Result<Option<Known>, sqlx::Error> {
    let sql = "SELECT number, ordered, ARRAY(SELECT pattern FROM {s}.pattern WHERE subscription = number ORDER BY pattern COLLATE \"C\") \
               FROM {s}.subscription WHERE group_name = $1 AND name = $2";
    let rows = sqlx::query(AssertSqlSafe(db.sql(sql))).persistent(false).bind(spec.group.as_str()).bind(spec.name.as_str()).fetch_all(tx).await?;
    let read = |row: &sqlx::postgres::PgRow| Ok(Known { number: row.try_get(0)?, ordered: row.try_get(1)?, patterns: row.try_get(2)? });
    rows.first().map(read).transpose()
}

/// Random, so that not even a database that was put back to an older state shows the same number for something else.
async fn change_epoch(tx: &mut PgConnection, db: &Db) -> Result<(), sqlx::Error> {
    let update = sqlx::query(AssertSqlSafe(db.sql("UPDATE {s}.epoch SET n = $1"))).persistent(false).bind(fastrand::i64(..));
    update.execute(tx).await.map(drop)
}

async fn set_patterns(tx: &mut PgConnection, db: &Db, number: i32, patterns: Vec<String>) -> Result<(), sqlx::Error> {
    let delete = sqlx::query(AssertSqlSafe(db.sql("DELETE FROM {s}.pattern WHERE subscription = $1"))).persistent(false).bind(number);
    delete.execute(&mut *tx).await?;
    let sql = "INSERT INTO {s}.pattern (subscription, pattern) SELECT $1, * FROM unnest($2::text[])";
    sqlx::query(AssertSqlSafe(db.sql(sql))).persistent(false).bind(number).bind(patterns).execute(tx).await.map(drop)
}

/// Lines up what waits by key, or dissolves the lines; `false` while something is handed out.
async fn reorder(tx: &mut PgConnection, db: &Db, number: i32, ordered: bool) -> Result<bool, sqlx::Error> {
    // Publishers that know only the old state are let finish, and the others find another epoch behind this.
    sqlx::raw_sql(AssertSqlSafe(db.sql("LOCK TABLE {s}.delivery IN SHARE ROW EXCLUSIVE MODE"))).execute(&mut *tx).await?;
    let sql = "SELECT EXISTS (SELECT 1 FROM {s}.delivery WHERE subscription = $1 AND token IS NOT NULL AND until > clock_timestamp())";
    let rows = sqlx::query(AssertSqlSafe(db.sql(sql))).persistent(false).bind(number).fetch_all(&mut *tx).await?;
    if rows.first().map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(false);
    }
    let steps: &[&str] = if ordered {
        &[
            // What was tried before stands in line from the start; what is delayed joins when it is due.
            "UPDATE {s}.delivery AS d SET line = CASE WHEN d.parked AND d.attempts = 0 THEN NULL ELSE m.key END, \
             later = CASE WHEN d.parked AND d.attempts = 0 THEN m.key END \
             FROM {s}.message AS m WHERE d.subscription = $1 AND m.seq = d.seq AND m.key IS NOT NULL",
            "UPDATE {s}.delivery AS d SET lined = true WHERE subscription = $1 AND line IS NOT NULL AND NOT parked AND EXISTS \
             (SELECT 1 FROM {s}.delivery AS e WHERE e.subscription = $1 AND e.line = d.line AND e.place < d.place)",
        ]
    } else {
        &["UPDATE {s}.delivery SET line = NULL, later = NULL, lined = false WHERE subscription = $1"]
    };
    for step in steps {
        sqlx::query(AssertSqlSafe(db.sql(step))).persistent(false).bind(number).execute(&mut *tx).await?;
    }
    let sql = "UPDATE {s}.subscription SET ordered = $2 WHERE number = $1";
    sqlx::query(AssertSqlSafe(db.sql(sql))).persistent(false).bind(number).bind(ordered).execute(tx).await?;
    Ok(true)
}
