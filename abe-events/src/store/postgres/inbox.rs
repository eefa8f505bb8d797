//! Keys: reserved, recorded, released, removed; and the transactions that begin with them.

use std::time::Duration;

use sqlx::{PgConnection, Postgres};

use super::super::stored::Row;
use super::super::{Held, Kind, Open, error, millis};
use super::{PostgresStore, not_stored, outbox};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{OpenTransaction, Reservation};
use crate::inbox::Begun;
use crate::mutant;

/// A transaction whose commit need not survive a crash of the server.
const BEGIN_QUICK: &str = "BEGIN; SET LOCAL synchronous_commit = off";

pub(super) async fn subscriber(store: &PostgresStore, group: String, name: String) -> Result<i64> {
    let find = async || {
        let find = store.statements.find_subscriber.clone();
        sqlx::query_scalar(find).bind(&group).bind(&name).fetch_optional(&store.pool).await.map_err(not_stored)
    };
    if let Some(number) = find().await? {
        return Ok(number);
    }
    let make = store.statements.make_subscriber.clone();
    sqlx::query(make).bind(&group).bind(&name).execute(&store.pool).await.map_err(not_stored)?;
    let missing = || Error::new(ErrorKind::Broker, "PostgreSQL: a row that was just made is not there");
    find().await?.ok_or_else(missing)
}

pub(super) async fn reserve(store: &PostgresStore, subscriber: i64, held: Held, lease: Duration) -> Result<Reservation> {
    let mut tx = store.pool.begin_with(BEGIN_QUICK).await.map_err(not_stored)?;
    let reserve = store.statements.reserve.clone();
    let reserve = sqlx::query(reserve).bind(subscriber).bind(&held.key).bind(held.token).bind(millis(lease));
    let reserved = reserve.execute(&mut *tx).await.map_err(not_stored)?;
    if reserved.rows_affected() == 1 {
        tx.commit().await.map_err(not_stored)?;
        return Ok(Reservation::Reserved);
    }
    let is_done = sqlx::query_scalar(store.statements.is_done.clone()).bind(subscriber).bind(&held.key);
    let done: Option<bool> = is_done.fetch_optional(&mut *tx).await.map_err(not_stored)?;
    // Gone in between: asked again, it will be free.
    Ok(if done == Some(true) { Reservation::Applied } else { Reservation::Busy })
}

/// Keys and their tokens, as arrays.
fn lists(held: Vec<Held>) -> (Vec<Vec<u8>>, Vec<i64>) {
    held.into_iter().map(|held| (held.key, held.token)).unzip()
}

pub(super) async fn renew(store: &PostgresStore, subscriber: i64, held: Vec<Held>, lease: Duration) -> Result<()> {
    let (keys, tokens) = lists(held);
    let renew = sqlx::query(store.statements.renew.clone()).bind(subscriber).bind(keys).bind(tokens).bind(millis(lease));
    renew.execute(&store.pool).await.map_err(not_stored)?;
    Ok(())
}

pub(super) async fn record(store: &PostgresStore, subscriber: i64, held: Vec<Held>, window: Duration) -> Result<u64> {
    let (keys, tokens) = lists(held);
    let record = sqlx::query(store.statements.record.clone()).bind(subscriber).bind(keys).bind(tokens).bind(millis(window));
    Ok(record.execute(&store.pool).await.map_err(not_stored)?.rows_affected())
}

pub(super) async fn release(store: &PostgresStore, subscriber: i64, held: Vec<Held>) -> Result<()> {
    let (keys, tokens) = lists(held);
    let release = sqlx::query(store.statements.release.clone()).bind(subscriber).bind(keys).bind(tokens);
    release.execute(&store.pool).await.map_err(not_stored)?;
    Ok(())
}

pub(super) async fn prune(store: &PostgresStore, max: u32) -> Result<u64> {
    let prune = sqlx::query(store.statements.prune.clone()).bind(i64::from(max));
    Ok(prune.execute(&store.pool).await.map_err(not_stored)?.rows_affected())
}

pub(super) async fn begin(
    store: &PostgresStore,
    subscriber: i64,
    keys: Vec<Vec<u8>>,
    window: Duration,
    idle: Option<Duration>,
) -> Result<Begun> {
    // A process that is stopped in the middle must not keep its messages' records locked for ever.
    let idle = idle.map_or(0, |idle| millis(idle).min(i64::from(i32::MAX)));
    let begin = format!("BEGIN; SET LOCAL idle_in_transaction_session_timeout = {idle}");
    let mut tx = store.pool.begin_with(sqlx::AssertSqlSafe(begin)).await.map_err(not_stored)?;
    mutant::pass("begun");
    let token = fastrand::i64(1..i64::MAX);
    let recorded = if mutant::is("tx-records-last") {
        unrecorded(store, &mut tx, subscriber, &keys).await?
    } else {
        insert(store, &mut tx, subscriber, token, &keys, window).await?
    };
    mutant::pass("recorded");
    let mut each = vec![Reservation::Reserved; keys.len()];
    if recorded.len() < keys.len() {
        let which = sqlx::query_scalar(store.statements.which_done.clone()).bind(subscriber).bind(&keys);
        let done: Vec<Vec<u8>> = which.fetch_all(&mut *tx).await.map_err(not_stored)?;
        for (key, of) in keys.iter().zip(&mut each).filter(|(key, _)| !recorded.contains(key)) {
            *of = if done.contains(key) { Reservation::Applied } else { Reservation::Busy };
        }
    }
    if mutant::is("tx-records-nothing") {
        each.fill(Reservation::Reserved);
    } else if recorded.is_empty() {
        tx.rollback().await.map_err(not_stored)?;
        return Ok(Begun { open: None, each });
    }
    let open: Open<Postgres> = Open { tx, subscriber, keys: recorded, token, published: false, _place: None };
    Ok(Begun { open: Some(Box::new(open)), each })
}

/// Records keys that are absent, or past their time, and answers which. One that another transaction is recording is
/// waited for: it is absent if that rolls back.
async fn insert(
    store: &PostgresStore,
    tx: &mut PgConnection,
    subscriber: i64,
    token: i64,
    keys: &[Vec<u8>],
    window: Duration,
) -> Result<Vec<Vec<u8>>> {
    if mutant::is("tx-records-nothing") {
        return Ok(Vec::new());
    }
    let begin = sqlx::query_scalar(store.statements.begin.clone()).bind(subscriber).bind(token).bind(keys).bind(millis(window));
    begin.fetch_all(tx).await.map_err(not_stored)
}

/// For a mutant: those that are not recorded yet, which is what another transaction sees as well.
async fn unrecorded(store: &PostgresStore, tx: &mut PgConnection, subscriber: i64, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let done: Vec<Vec<u8>> =
        sqlx::query_scalar(store.statements.which_done.clone()).bind(subscriber).bind(keys).fetch_all(tx).await.map_err(not_stored)?;
    Ok(keys.iter().filter(|key| !done.contains(key)).cloned().collect())
}

pub(super) async fn commit(store: &PostgresStore, open: OpenTransaction, rows: Vec<Row>) -> Result<bool> {
    let Ok(open) = open.downcast::<Open<Postgres>>() else {
        return Err(Error::new(ErrorKind::NotStored, "the transaction is of another database"));
    };
    let Open { mut tx, subscriber, keys, token, published, _place } = *open;
    if mutant::is("tx-records-last") {
        insert(store, &mut tx, subscriber, token, &keys, Duration::from_secs(3_600)).await?;
    }
    // The server answers `COMMIT` of a transaction in which a statement has failed with a rollback, and not with an error.
    let is_recorded = sqlx::query_scalar(store.statements.is_recorded.clone()).bind(subscriber).bind(token).bind(&keys);
    let found: i64 = is_recorded.fetch_one(&mut *tx).await.map_err(not_stored)?;
    if usize::try_from(found) != Ok(keys.len()) {
        let text = "PostgreSQL: the transaction was ended within the handler, by a statement of its own";
        return Err(Error::new(ErrorKind::NotStored, text));
    }
    let has_rows = !rows.is_empty();
    if has_rows {
        outbox::insert(&mut tx, &store.statements, rows).await?;
        mutant::pass("published");
    }
    mutant::pass("committing");
    tx.commit().await.map_err(|error| error::of_commit(Kind::Postgres, &error))?;
    mutant::pass("committed");
    Ok(published || has_rows)
}
