//! Keys: reserved, recorded, released, removed; and the transactions that begin with them.

use std::time::Duration;

use sqlx::{Sqlite, SqliteConnection};

use super::super::stored::Row;
use super::super::{Held, Kind, Open, error, millis};
use super::{SqliteStore, hex, json, not_stored, now, outbox};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{OpenTransaction, Reservation};
use crate::inbox::Begun;
use crate::mutant;

pub(super) async fn subscriber(store: &SqliteStore, group: String, name: String) -> Result<i64> {
    let find = "SELECT number FROM abe_subscriber WHERE group_name = ?1 AND name = ?2";
    let found: Option<i64> = sqlx::query_scalar(find).bind(&group).bind(&name).fetch_optional(&store.pool).await.map_err(not_stored)?;
    if let Some(number) = found {
        return Ok(number);
    }
    let mut write = store.write(&store.pool).await?;
    let make = "INSERT INTO abe_subscriber (group_name, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    sqlx::query(make).bind(&group).bind(&name).execute(&mut *write.tx).await.map_err(not_stored)?;
    let number = sqlx::query_scalar(find).bind(&group).bind(&name).fetch_one(&mut *write.tx).await.map_err(not_stored)?;
    write.commit().await?;
    Ok(number)
}

pub(super) async fn reserve(store: &SqliteStore, subscriber: i64, held: Held, lease: Duration) -> Result<Reservation> {
    let place = store.place().await?;
    let reserved = sqlx::query(concat!(
        "INSERT INTO abe_inbox (subscriber, key, token, done, expires_ms) VALUES (?1, ?2, ?3, 0, ",
        now!(),
        " + ?4) ",
        "ON CONFLICT (subscriber, key) DO UPDATE SET token = excluded.token, done = 0, expires_ms = excluded.expires_ms ",
        "WHERE abe_inbox.expires_ms <= ",
        now!()
    ))
    .bind(subscriber)
    .bind(&held.key)
    .bind(held.token)
    .bind(millis(lease))
    .execute(&store.quick)
    .await
    .map_err(not_stored)?;
    drop(place);
    if reserved.rows_affected() == 1 {
        return Ok(Reservation::Reserved);
    }
    let find = "SELECT done FROM abe_inbox WHERE subscriber = ?1 AND key = ?2";
    let done: Option<bool> =
        sqlx::query_scalar(find).bind(subscriber).bind(&held.key).fetch_optional(&store.pool).await.map_err(not_stored)?;
    // Gone in between: asked again, it will be free.
    Ok(if done == Some(true) { Reservation::Applied } else { Reservation::Busy })
}

/// Keys with their tokens, as `json_each` reads them.
fn list(held: &[Held]) -> Result<String> {
    json(&held.iter().map(|held| (hex(&held.key), held.token)).collect::<Vec<_>>())
}

pub(super) async fn renew(store: &SqliteStore, subscriber: i64, held: Vec<Held>, lease: Duration) -> Result<()> {
    let list = list(&held)?;
    let _place = store.place().await?;
    sqlx::query(concat!(
        "UPDATE abe_inbox SET expires_ms = ",
        now!(),
        " + ?3 WHERE done = 0 AND subscriber = ?1 ",
        "AND (key, token) IN (SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?2))"
    ))
    .bind(subscriber)
    .bind(list)
    .bind(millis(lease))
    .execute(&store.quick)
    .await
    .map_err(not_stored)?;
    Ok(())
}

pub(super) async fn record(store: &SqliteStore, subscriber: i64, held: Vec<Held>, window: Duration) -> Result<u64> {
    let list = list(&held)?;
    let _place = store.place().await?;
    // Inserted where a reservation was undone by a power failure.
    let recorded = sqlx::query(concat!(
        "INSERT INTO abe_inbox (subscriber, key, token, done, expires_ms) ",
        "SELECT ?1, unhex(value ->> 0), value ->> 1, 1, ",
        now!(),
        " + ?3 FROM json_each(?2) WHERE true ",
        "ON CONFLICT (subscriber, key) DO UPDATE SET done = 1, expires_ms = excluded.expires_ms ",
        "WHERE abe_inbox.token = excluded.token"
    ))
    .bind(subscriber)
    .bind(list)
    .bind(millis(window))
    .execute(&store.pool)
    .await
    .map_err(not_stored)?;
    Ok(recorded.rows_affected())
}

pub(super) async fn release(store: &SqliteStore, subscriber: i64, held: Vec<Held>) -> Result<()> {
    let list = list(&held)?;
    let _place = store.place().await?;
    let release = "DELETE FROM abe_inbox WHERE done = 0 AND subscriber = ?1 \
                   AND (key, token) IN (SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?2))";
    sqlx::query(release).bind(subscriber).bind(list).execute(&store.quick).await.map_err(not_stored)?;
    Ok(())
}

pub(super) async fn prune(store: &SqliteStore, max: u32) -> Result<u64> {
    let old = concat!("SELECT 1 FROM abe_inbox WHERE expires_ms <= ", now!(), " LIMIT 1");
    let any: Option<i64> = sqlx::query_scalar(old).fetch_optional(&store.pool).await.map_err(not_stored)?;
    if any.is_none() {
        return Ok(0);
    }
    let _place = store.place().await?;
    let prune = concat!(
        "DELETE FROM abe_inbox WHERE (subscriber, key) IN ",
        "(SELECT subscriber, key FROM abe_inbox WHERE expires_ms <= ",
        now!(),
        " ORDER BY expires_ms LIMIT ?1)"
    );
    Ok(sqlx::query(prune).bind(max).execute(&store.quick).await.map_err(not_stored)?.rows_affected())
}

pub(super) async fn begin(store: &SqliteStore, subscriber: i64, keys: Vec<Vec<u8>>, window: Duration) -> Result<Begun> {
    let place = store.place().await?;
    let mut tx = store.pool.begin_with("BEGIN IMMEDIATE").await.map_err(not_stored)?;
    mutant::pass("begun");
    let token = fastrand::i64(1..i64::MAX);
    let list = json(&keys.iter().map(|key| hex(key)).collect::<Vec<_>>())?;
    let recorded = insert(&mut tx, subscriber, token, &list, window).await?;
    mutant::pass("recorded");
    let mut each = vec![Reservation::Reserved; keys.len()];
    if recorded.len() < keys.len() {
        let find = "SELECT key FROM abe_inbox WHERE done = 1 AND subscriber = ?1 AND key IN (SELECT unhex(value) FROM json_each(?2))";
        let done: Vec<Vec<u8>> = sqlx::query_scalar(find).bind(subscriber).bind(list).fetch_all(&mut *tx).await.map_err(not_stored)?;
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
    let open: Open<Sqlite> = Open { tx, subscriber, keys: recorded, token, published: false, _place: Some(place) };
    Ok(Begun { open: Some(Box::new(open)), each })
}

/// Records keys that are absent, or past their time, and answers which.
async fn insert(tx: &mut SqliteConnection, subscriber: i64, token: i64, keys: &str, window: Duration) -> Result<Vec<Vec<u8>>> {
    if mutant::is("tx-records-nothing") {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(concat!(
        "INSERT INTO abe_inbox (subscriber, key, token, done, expires_ms) ",
        "SELECT ?1, unhex(value), ?2, 1, ",
        now!(),
        " + ?4 FROM json_each(?3) WHERE true ",
        "ON CONFLICT (subscriber, key) DO UPDATE SET token = excluded.token, done = 1, expires_ms = excluded.expires_ms ",
        "WHERE abe_inbox.expires_ms <= ",
        now!(),
        " RETURNING key"
    ))
    .bind(subscriber)
    .bind(token)
    .bind(keys)
    .bind(millis(window))
    .fetch_all(tx)
    .await
    .map_err(not_stored)
}

pub(super) async fn commit(open: OpenTransaction, rows: Vec<Row>) -> Result<bool> {
    let Ok(open) = open.downcast::<Open<Sqlite>>() else {
        return Err(Error::new(ErrorKind::NotStored, "the transaction is of another database"));
    };
    let Open { mut tx, subscriber, keys, token, published, _place } = *open;
    // SQLite ends a transaction by itself after some errors, which a handler may pass over; and it may have said `ROLLBACK`.
    let find = "SELECT count(*) FROM abe_inbox WHERE subscriber = ?1 AND token = ?2 AND key IN (SELECT unhex(value) FROM json_each(?3))";
    let list = json(&keys.iter().map(|key| hex(key)).collect::<Vec<_>>())?;
    let found: i64 = sqlx::query_scalar(find).bind(subscriber).bind(token).bind(list).fetch_one(&mut *tx).await.map_err(not_stored)?;
    if usize::try_from(found) != Ok(keys.len()) {
        let text = "SQLite: the transaction was ended within the handler, by a statement of its own or an error it passed over";
        return Err(Error::new(ErrorKind::NotStored, text));
    }
    if !rows.is_empty() {
        outbox::insert(&mut tx, &rows).await?;
        mutant::pass("published");
    }
    mutant::pass("committing");
    tx.commit().await.map_err(|error| error::of_commit(Kind::Sqlite, &error))?;
    mutant::pass("committed");
    Ok(published || !rows.is_empty())
}
