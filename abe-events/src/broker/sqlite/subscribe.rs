//! Making sure that a subscription exists, as its newest consumer says it should be.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::super::SubscriptionSpec;
use super::claim::return_expired;
use super::error::Fault;
use super::live::Live;
use super::state::Tx;
use crate::topic::TopicPattern;

/// What subscribing came to.
pub(super) enum Subscribed {
    Open {
        number: i64,
        live: Arc<Live>,
    },
    /// Its order cannot be changed while deliveries are handed out.
    InUse,
}

pub(super) fn subscribe(tx: &mut Tx<'_>, spec: &SubscriptionSpec) -> Result<Subscribed, Fault> {
    let (group, name) = (spec.group.as_str(), spec.name.as_str());
    let number = match tx.state.find(group, name) {
        Some(number) => number,
        None => {
            let sql = "INSERT INTO abe_subscription (group_name, name, ordered) VALUES (?1, ?2, ?3)";
            let number = tx.connection.prepare_cached(sql)?.insert(params![group, name, spec.ordered])?;
            tx.state.add(number, group, name, spec.ordered);
            number
        }
    };
    if tx.state.get(number).is_some_and(|row| row.ordered != spec.ordered) {
        while return_expired(tx, number)? > 0 {}
        if is_in_use(tx, number)? {
            return Ok(Subscribed::InUse);
        }
        reorder(tx, number, spec.ordered)?;
    }
    set_topics(tx, number, &spec.topics)?;
    let live = tx.state.live(number)?;
    // Whatever fell due while nobody was there.
    tx.wake(number);
    Ok(Subscribed::Open { number, live })
}

fn set_topics(tx: &mut Tx<'_>, number: i64, topics: &[TopicPattern]) -> Result<(), Fault> {
    let mut wanted = topics.to_vec();
    wanted.sort();
    wanted.dedup();
    if tx.state.topics(number) == wanted {
        return Ok(());
    }
    tx.connection.prepare_cached("DELETE FROM abe_pattern WHERE subscription = ?1")?.execute([number])?;
    for pattern in &wanted {
        let sql = "INSERT INTO abe_pattern (subscription, pattern) VALUES (?1, ?2)";
        tx.connection.prepare_cached(sql)?.execute(params![number, pattern.as_str()])?;
    }
    tx.state.set_topics(number, wanted);
    Ok(())
}

/// Whether anything is handed out under a lease that is alive.
fn is_in_use(tx: &Tx<'_>, number: i64) -> Result<bool, Fault> {
    let sql = "SELECT 1 WHERE EXISTS (SELECT 1 FROM abe_lease WHERE subscription = ?1) \
               OR EXISTS (SELECT 1 FROM abe_delivery WHERE subscription = ?1 AND token IS NOT NULL AND due > ?2)";
    let found: Option<i64> = tx.connection.prepare_cached(sql)?.query_row([number, tx.now], |row| row.get(0)).optional()?;
    Ok(found.is_some())
}

/// Lines up what waits by key, or dissolves the lines.
fn reorder(tx: &mut Tx<'_>, number: i64, ordered: bool) -> Result<(), Fault> {
    let steps: &[&str] = if ordered {
        &[
            "INSERT INTO abe_delivery (subscription, seq, due, delayed, attempts, key) \
             SELECT b.subscription, b.seq, CASE WHEN row_number() OVER (PARTITION BY m.key ORDER BY b.seq) = 1 THEN ?2 END, 0, 0, m.key \
             FROM abe_backlog AS b JOIN abe_message AS m ON m.seq = b.seq WHERE b.subscription = ?1 AND m.key IS NOT NULL",
            "DELETE FROM abe_backlog WHERE subscription = ?1 AND ?2 = ?2 \
             AND seq IN (SELECT seq FROM abe_delivery WHERE subscription = ?1 AND key IS NOT NULL)",
        ]
    } else {
        &["UPDATE abe_delivery SET due = coalesce(due, ?2), key = NULL WHERE subscription = ?1 AND key IS NOT NULL"]
    };
    for step in steps {
        tx.connection.prepare_cached(step)?.execute([number, tx.now])?;
    }
    let sql = "UPDATE abe_subscription SET ordered = ?2 WHERE number = ?1";
    tx.connection.prepare_cached(sql)?.execute(params![number, ordered])?;
    tx.state.change(number)?.ordered = ordered;
    Ok(())
}
