//! Settling: verdicts carried out by whoever holds the token, and nobody else; leases renewed.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{ErrorCode, OptionalExtension, params};
use tokio::sync::oneshot;

use super::super::fate::{Came, Fate};
use super::super::seat;
use super::error::{Fault, not_stored};
use super::state::Tx;
use super::writer::Work;
use crate::error::{Error, Result};

/// A delivery as its consumer holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) seq: i64,
    /// The token it was handed out with, unique within its subscription.
    pub(super) lease: i64,
    /// How many deliveries of the backlog share its lease; 0 for one with a row of its own.
    pub(super) piece: usize,
    pub(super) attempt: u32,
    pub(super) bytes: i64,
    pub(super) shared: bool,
}

impl seat::Held for Held {
    fn place(&self) -> i64 {
        self.seq
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Verdicts of one call.
pub(super) struct Settle {
    subscription: i64,
    items: Vec<(Held, Fate)>,
    came: Vec<Came>,
    reply: Option<oneshot::Sender<Result<Vec<Came>>>>,
}

impl Settle {
    pub(super) fn new(subscription: i64, items: Vec<(Held, Fate)>, reply: oneshot::Sender<Result<Vec<Came>>>) -> Self {
        Self { subscription, items, came: Vec::new(), reply: Some(reply) }
    }

    /// Gives back what nobody took.
    pub(super) fn unasked(subscription: i64, items: Vec<(Held, Fate)>) -> Self {
        Self { subscription, items, came: Vec::new(), reply: None }
    }
}

impl Work for Settle {
    fn weight(&self) -> usize {
        self.items.len() * 64
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.came.clear();
        if crate::mutant::is("sqlite-ack-forgotten") && fastrand::u32(0..20) == 0 {
            self.came.extend(self.items.iter().map(|_| Came::Done));
            return Ok(());
        }
        if self.ack_piece(tx)? {
            return Ok(());
        }
        // How many of a piece's deliveries are settled here; `None` when its lease is lost.
        let mut pieces: BTreeMap<i64, Option<i64>> = BTreeMap::new();
        for (held, fate) in &self.items {
            let came = if held.piece == 0 {
                one(tx, self.subscription, held, fate)?
            } else {
                let settled = match pieces.get(&held.lease) {
                    Some(known) => *known,
                    None => remaining(tx, self.subscription, held.lease)?.map(|_| 0),
                };
                match settled {
                    None => {
                        pieces.insert(held.lease, None);
                        Came::Lost
                    }
                    Some(before) => {
                        let came = of_piece(tx, self.subscription, held, fate)?;
                        pieces.insert(held.lease, Some(before + i64::from(matches!(came, Came::Done))));
                        came
                    }
                }
            };
            if matches!(came, Came::Done) {
                tx.state.change(self.subscription)?.unsettled -= 1;
            }
            self.came.push(came);
        }
        for (lease, settled) in pieces {
            if let Some(settled) = settled.filter(|settled| *settled > 0) {
                shrink(tx, self.subscription, lease, settled)?;
            }
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let Self { came, reply, .. } = *self;
        if let Some(reply) = reply {
            let _ = reply.send(outcome.map(|()| came));
        } else if let Err(error) = outcome {
            tracing::warn!(%error, "deliveries could not be given back; they come again when their lease ends");
        }
    }
}

impl Settle {
    /// The usual case in a few statements: a whole piece, acked. `false` if it is not that case.
    fn ack_piece(&mut self, tx: &mut Tx<'_>) -> Result<bool, Fault> {
        let Some((first, _)) = self.items.first() else { return Ok(true) };
        let (lease, count) = (first.lease, first.piece);
        let whole = count == self.items.len()
            && self.items.iter().all(|(held, fate)| held.lease == lease && held.piece > 0 && matches!(fate, Fate::Ack));
        if !whole {
            return Ok(false);
        }
        let sql = "DELETE FROM abe_lease WHERE subscription = ?1 AND token = ?2 AND remaining = ?3";
        if tx.connection.prepare_cached(sql)?.execute(params![self.subscription, lease, count])? == 0 {
            return Ok(false);
        }
        let seqs = || self.items.iter().map(|(held, _)| held.seq);
        let (low, high) = (seqs().min().unwrap_or(0), seqs().max().unwrap_or(0));
        // Between them there is nothing else of this subscription's backlog: pieces are handed out from one end.
        let sql = "DELETE FROM abe_backlog WHERE subscription = ?1 AND seq BETWEEN ?2 AND ?3";
        tx.connection.prepare_cached(sql)?.execute([self.subscription, low, high])?;
        let gapless = usize::try_from(high - low + 1) == Ok(count);
        if gapless && self.items.iter().all(|(held, _)| !held.shared) {
            tx.connection.prepare_cached("DELETE FROM abe_message WHERE seq BETWEEN ?1 AND ?2")?.execute([low, high])?;
        } else {
            for (held, _) in &self.items {
                drop_message(tx, held)?;
            }
        }
        let settled = i64::try_from(count).unwrap_or(0);
        let row = tx.state.change(self.subscription)?;
        row.unsettled -= settled;
        row.pending -= settled;
        row.bytes -= self.items.iter().map(|(held, _)| held.bytes).sum::<i64>();
        self.came.extend(self.items.iter().map(|_| Came::Done));
        Ok(true)
    }
}

/// How much of a piece is unsettled; `None` when the lease is lost.
fn remaining(tx: &Tx<'_>, subscription: i64, lease: i64) -> Result<Option<i64>, Fault> {
    let sql = "SELECT remaining FROM abe_lease WHERE subscription = ?1 AND token = ?2";
    let found = tx.connection.prepare_cached(sql)?.query_row([subscription, lease], |row| row.get(0)).optional()?;
    Ok(if crate::mutant::is("sqlite-token-unchecked") { Some(found.unwrap_or(0)) } else { found })
}

/// Takes so many off a piece, and the lease away with the last.
fn shrink(tx: &Tx<'_>, subscription: i64, lease: i64, settled: i64) -> Result<(), Fault> {
    let sql = "DELETE FROM abe_lease WHERE subscription = ?1 AND token = ?2 AND remaining <= ?3";
    if tx.connection.prepare_cached(sql)?.execute([subscription, lease, settled])? == 0 {
        let sql = "UPDATE abe_lease SET remaining = remaining - ?3 WHERE subscription = ?1 AND token = ?2";
        tx.connection.prepare_cached(sql)?.execute([subscription, lease, settled])?;
    }
    Ok(())
}

/// A delivery of a piece whose lease is alive.
fn of_piece(tx: &mut Tx<'_>, subscription: i64, held: &Held, fate: &Fate) -> Result<Came, Fault> {
    if let Fate::Dead { failures, at_ms } = fate
        && let Some(error) = bury(tx, subscription, held, failures, *at_ms)?
    {
        return Ok(Came::Failed(error));
    }
    let sql = "DELETE FROM abe_backlog WHERE subscription = ?1 AND seq = ?2";
    if tx.connection.prepare_cached(sql)?.execute([subscription, held.seq])? == 0 {
        return Ok(Came::Lost);
    }
    let (after, failures, attempts) = match fate {
        Fate::Ack | Fate::Dead { .. } => return end(tx, subscription, held),
        Fate::Retry { after, failures } => (*after, Some(failures), 1),
        Fate::Release { after, counted } => (*after, None, i64::from(*counted)),
    };
    let due = put_back(tx, subscription, after)?;
    let sql = "INSERT INTO abe_delivery (subscription, seq, due, delayed, attempts, failures) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.connection.prepare_cached(sql)?.execute(params![subscription, held.seq, due, !after.is_zero(), attempts, failures])?;
    Ok(Came::Done)
}

/// A delivery with a row of its own.
fn one(tx: &mut Tx<'_>, subscription: i64, held: &Held, fate: &Fate) -> Result<Came, Fault> {
    let (after, failures, uncounted) = match fate {
        Fate::Retry { after, failures } => (*after, Some(failures), 0),
        Fate::Release { after, counted } => (*after, None, i64::from(!counted)),
        Fate::Ack | Fate::Dead { .. } => return finish_one(tx, subscription, held, fate),
    };
    if !is_held(tx, subscription, held)? {
        return Ok(Came::Lost);
    }
    let due = put_back(tx, subscription, after)?;
    let sql = "UPDATE abe_delivery SET due = ?3, token = NULL, delayed = ?4, attempts = max(attempts - ?5, 0), failures = coalesce(?6, failures) \
               WHERE subscription = ?1 AND seq = ?2";
    tx.connection.prepare_cached(sql)?.execute(params![subscription, held.seq, due, !after.is_zero(), uncounted, failures])?;
    Ok(Came::Done)
}

fn finish_one(tx: &mut Tx<'_>, subscription: i64, held: &Held, fate: &Fate) -> Result<Came, Fault> {
    if !is_held(tx, subscription, held)? {
        return Ok(Came::Lost);
    }
    if let Fate::Dead { failures, at_ms } = fate
        && let Some(error) = bury(tx, subscription, held, failures, *at_ms)?
    {
        return Ok(Came::Failed(error));
    }
    let sql = "DELETE FROM abe_delivery WHERE subscription = ?1 AND seq = ?2 RETURNING key";
    let key: Option<Option<String>> =
        tx.connection.prepare_cached(sql)?.query_row([subscription, held.seq], |row| row.get(0)).optional()?;
    if let Some(key) = key.flatten() {
        advance(tx, subscription, &key)?;
    }
    end(tx, subscription, held)
}

fn is_held(tx: &Tx<'_>, subscription: i64, held: &Held) -> Result<bool, Fault> {
    let sql = "SELECT token = ?3 FROM abe_delivery WHERE subscription = ?1 AND seq = ?2";
    let found: Option<Option<bool>> =
        tx.connection.prepare_cached(sql)?.query_row([subscription, held.seq, held.lease], |row| row.get(0)).optional()?;
    Ok(found.flatten() == Some(true) || crate::mutant::is("sqlite-token-unchecked"))
}

/// Lets the next of a key go.
fn advance(tx: &mut Tx<'_>, subscription: i64, key: &str) -> Result<(), Fault> {
    let sql = "UPDATE abe_delivery SET due = ?3 WHERE subscription = ?1 AND seq = \
               (SELECT seq FROM abe_delivery WHERE subscription = ?1 AND key = ?2 AND due IS NULL ORDER BY seq LIMIT 1)";
    if tx.connection.prepare_cached(sql)?.execute(params![subscription, key, tx.now])? > 0 {
        tx.wake(subscription);
    }
    Ok(())
}

/// Counts a delivery that goes back to its queue, and says when it is due.
fn put_back(tx: &mut Tx<'_>, subscription: i64, after: Duration) -> Result<i64, Fault> {
    if after.is_zero() {
        tx.wake(subscription);
        return Ok(tx.now);
    }
    let due = tx.after(after);
    tx.state.change(subscription)?.delayed += 1;
    tx.wake_at(subscription, due);
    Ok(due)
}

/// The subscription has ended with a message.
fn end(tx: &mut Tx<'_>, subscription: i64, held: &Held) -> Result<Came, Fault> {
    let row = tx.state.change(subscription)?;
    row.pending -= 1;
    row.bytes -= held.bytes;
    drop_message(tx, held)?;
    Ok(Came::Done)
}

/// Removes what is carried once no subscription needs it.
fn drop_message(tx: &Tx<'_>, held: &Held) -> Result<(), Fault> {
    if held.shared {
        let sql = "UPDATE abe_sharing SET remaining = remaining - 1 WHERE seq = ?1 RETURNING remaining";
        let left: Option<i64> = tx.connection.prepare_cached(sql)?.query_row([held.seq], |row| row.get(0)).optional()?;
        if left.is_some_and(|left| left > 0) {
            return Ok(());
        }
        tx.connection.prepare_cached("DELETE FROM abe_sharing WHERE seq = ?1")?.execute([held.seq])?;
    }
    tx.connection.prepare_cached("DELETE FROM abe_message WHERE seq = ?1")?.execute([held.seq])?;
    Ok(())
}

/// Stores a dead letter, in place of an older one of the same message; answers why it is refused, if it is.
fn bury(tx: &Tx<'_>, subscription: i64, held: &Held, failures: &str, at_ms: i64) -> Result<Option<Error>, Fault> {
    let row = tx.state.get(subscription).ok_or(Fault::QueryReturnedNoRows)?;
    let sql = "INSERT OR REPLACE INTO abe_dead_letter \
               (group_name, name, id, topic, version, time_ms, key, attributes, payload, attempts, failures, at_ms) \
               SELECT ?2, ?3, id, topic, version, time_ms, key, attributes, payload, ?4, ?5, ?6 FROM abe_message WHERE seq = ?1";
    let stored = tx.connection.prepare_cached(sql)?.execute(params![held.seq, row.group, row.name, held.attempt, failures, at_ms]);
    if crate::mutant::is("sqlite-bury-apart") {
        tx.connection.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
    }
    match stored {
        Ok(_) => Ok(None),
        // Undone as a statement; the other verdicts are not concerned.
        Err(fault) if fault.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(Some(not_stored(&fault))),
        Err(fault) => Err(fault),
    }
}

/// Renews leases; what is lost is answered by its place.
pub(super) fn renew(tx: &Tx<'_>, subscription: i64, items: &[Held], lease: Duration) -> Result<Vec<bool>, Fault> {
    let until = tx.after(lease);
    let mut pieces: BTreeMap<i64, bool> = BTreeMap::new();
    let mut alive = Vec::with_capacity(items.len());
    for held in items {
        alive.push(if held.piece > 0 {
            match pieces.get(&held.lease) {
                Some(known) => *known,
                None => {
                    let sql = "UPDATE abe_lease SET until = ?3 WHERE subscription = ?1 AND token = ?2";
                    let known = tx.connection.prepare_cached(sql)?.execute([subscription, held.lease, until])? > 0;
                    pieces.insert(held.lease, known);
                    known
                }
            }
        } else {
            let sql = "UPDATE abe_delivery SET due = ?4 WHERE subscription = ?1 AND seq = ?2 AND token = ?3";
            tx.connection.prepare_cached(sql)?.execute([subscription, held.seq, held.lease, until])? > 0
        });
    }
    Ok(alive)
}
