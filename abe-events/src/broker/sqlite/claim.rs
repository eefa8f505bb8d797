//! Claiming: what is due, then the backlog, under a lease and with its attempt counted, before anyone gets to see it.
//!
//! The backlog is handed out in pieces: one row of `abe_lease` stands for all of a piece, so that the usual message costs
//! no write of its own between publish and ack.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use rusqlite::{Row, params};
use tokio::sync::oneshot;

use super::super::Failure;
use super::super::failures::failures_of;
use super::super::fate::Fate;
use super::super::seat;
use super::super::stored::bytes_of;
use super::error::Fault;
use super::publish::is_busy;
use super::settle::{Held, Settle};
use super::state::Tx;
use super::writer::{Inbox, Work};
use crate::error::Result;
use crate::message::Message;
use crate::wire::columns::build;

/// How many leases that ended are taken back at once.
const EXPIRED_MAX: usize = 64;

/// The message's columns, as [`message_of`] reads them, and whether others share it.
macro_rules! message_columns {
    () => {
        "m.id, m.topic, m.version, m.time_ms, m.key, m.attributes, m.payload, m.shared"
    };
}

pub(super) const DUE: &str = concat!(
    "SELECT d.seq, d.attempts, d.delayed, d.failures, d.key, d.token, ",
    message_columns!(),
    " FROM abe_delivery AS d CROSS JOIN abe_message AS m ON m.seq = d.seq WHERE d.subscription = ?1 AND d.due <= ?2 ORDER BY d.due, d.seq LIMIT ?3"
);
pub(super) const BACKLOG: &str = concat!(
    "SELECT b.seq, ",
    message_columns!(),
    " FROM abe_backlog AS b CROSS JOIN abe_message AS m ON m.seq = b.seq WHERE b.subscription = ?1 AND b.seq > ?2 ORDER BY b.seq LIMIT ?3"
);
pub(super) const EXPIRED: &str = "SELECT token, first, last FROM abe_lease WHERE subscription = ?1 AND until <= ?2 LIMIT ?3";
pub(super) const NEXT_DUE: &str = "SELECT min(due) FROM abe_delivery WHERE subscription = ?1 AND due > ?2";
pub(super) const NEXT_UNTIL: &str = "SELECT min(until) FROM abe_lease WHERE subscription = ?1";

pub(super) type Claimed = seat::Claimed<Held>;

/// What was claimed; whatever is not taken out is given back, as if it had not been handed out.
#[derive(Debug)]
pub(super) struct Handout {
    found: Vec<Claimed>,
    subscription: i64,
    inbox: Arc<Inbox>,
}

impl Handout {
    pub(super) fn take(&mut self) -> Vec<Claimed> {
        std::mem::take(&mut self.found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        if !self.found.is_empty() {
            let items =
                self.found.drain(..).map(|claimed| (claimed.held, Fate::Release { after: Duration::ZERO, counted: false })).collect();
            let _ = self.inbox.push(Box::new(Settle::unasked(self.subscription, items)));
        }
    }
}

/// Asks for at most so many messages.
pub(super) struct Claim {
    pub(super) subscription: i64,
    pub(super) max: usize,
    /// How many bytes of payload, beyond which no further message is added.
    pub(super) bytes_max: usize,
    pub(super) lease: Duration,
    pub(super) found: Vec<Claimed>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) reply: oneshot::Sender<Result<Handout>>,
}

impl Work for Claim {
    fn weight(&self) -> usize {
        // What it reads stays in memory until the commit.
        self.max.saturating_mul(1_024)
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.found.clear();
        // Nobody waits for it any more.
        if self.reply.is_closed() {
            return Ok(());
        }
        return_expired(tx, self.subscription)?;
        let token = tx.state.get(self.subscription).ok_or(Fault::QueryReturnedNoRows)?.tokens + 1;
        let until = tx.after(self.lease);
        let mut taking =
            Taking { subscription: self.subscription, token, until, room: self.max, bytes: self.bytes_max, found: &mut self.found };
        let given = taking.due(tx)? + taking.backlog(tx)?;
        let full = taking.room == 0 || taking.bytes == 0;
        if given > 0 {
            tx.state.change(self.subscription)?.tokens = token;
            if full {
                tx.wake(self.subscription);
            }
        }
        self.look_again(tx)
    }

    fn answer(mut self: Box<Self>, outcome: Result<()>) {
        let handout = outcome.map(|()| Handout {
            found: std::mem::take(&mut self.found),
            subscription: self.subscription,
            inbox: self.inbox.clone(),
        });
        // A handout that nobody takes gives itself back.
        let _ = self.reply.send(handout);
    }
}

impl Claim {
    /// Notes when something falls due next.
    fn look_again(&self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let due: Option<i64> = tx.connection.prepare_cached(NEXT_DUE)?.query_row([self.subscription, tx.now], |row| row.get(0))?;
        let until: Option<i64> = tx.connection.prepare_cached(NEXT_UNTIL)?.query_row([self.subscription], |row| row.get(0))?;
        if let Some(due) = due.into_iter().chain(until).min() {
            tx.wake_at(self.subscription, due);
        }
        Ok(())
    }
}

/// A claim under way.
struct Taking<'a> {
    subscription: i64,
    token: i64,
    until: i64,
    room: usize,
    bytes: usize,
    found: &'a mut Vec<Claimed>,
}

/// A row that is due.
struct DueRow {
    seq: i64,
    attempts: u32,
    delayed: bool,
    failures: Option<String>,
    /// The key it stands in line for.
    line: Option<String>,
    held: bool,
    message: Result<Message>,
    payload: usize,
    shared: bool,
}

impl DueRow {
    fn of(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Self {
            seq: row.get(0)?,
            attempts: row.get(1)?,
            delayed: row.get(2)?,
            failures: row.get(3)?,
            line: row.get(4)?,
            held: row.get::<_, Option<i64>>(5)?.is_some(),
            message: message_of(row, 6)?,
            payload: row.get_ref(12)?.as_blob()?.len(),
            shared: row.get(13)?,
        })
    }
}

impl Taking<'_> {
    fn count(&mut self, payload: usize) {
        self.room -= 1;
        self.bytes = self.bytes.saturating_sub(payload.max(1));
    }

    /// What was tried, delayed or released before, and the heads of keys.
    fn due(&mut self, tx: &mut Tx<'_>) -> Result<usize, Fault> {
        let mut statement = tx.connection.prepare_cached(DUE)?;
        let mut rows = statement.query(params![self.subscription, tx.now, self.room])?;
        let mut due = Vec::new();
        while self.bytes > 0
            && let Some(row) = rows.next()?
        {
            let row = DueRow::of(row)?;
            self.count(row.payload);
            due.push(row);
        }
        drop(rows);
        drop(statement);
        let mut given = 0;
        for row in due {
            given += usize::from(self.hand_out_due(tx, row)?);
        }
        Ok(given)
    }

    /// Hands out a row, or lets it stand in line behind others of its key.
    fn hand_out_due(&mut self, tx: &mut Tx<'_>, due: DueRow) -> Result<bool, Fault> {
        let key = due.message.as_ref().ok().and_then(|message| message.key());
        let subscription = tx.state.change(self.subscription)?;
        subscription.delayed -= i64::from(due.delayed);
        subscription.unsettled -= i64::from(due.held);
        let joins = if subscription.ordered && due.line.is_none() { key } else { None };
        if let Some(key) = joins
            && is_busy(tx, self.subscription, key)?
        {
            let sql = "UPDATE abe_delivery SET due = NULL, token = NULL, delayed = 0, key = ?3 WHERE subscription = ?1 AND seq = ?2";
            tx.connection.prepare_cached(sql)?.execute(params![self.subscription, due.seq, key])?;
            return Ok(false);
        }
        let attempt = due.attempts.saturating_add(u32::from(!crate::mutant::is("sqlite-attempt-uncounted")));
        let sql = "UPDATE abe_delivery SET due = ?3, token = ?4, delayed = 0, attempts = ?5, key = coalesce(key, ?6) WHERE subscription = ?1 AND seq = ?2";
        tx.connection.prepare_cached(sql)?.execute(params![self.subscription, due.seq, self.until, self.token, attempt, joins])?;
        tx.state.change(self.subscription)?.unsettled += 1;
        let held =
            Held { seq: due.seq, lease: self.token, piece: 0, attempt: attempt.max(1), bytes: bytes_of(due.payload), shared: due.shared };
        self.hand_over(held, due.message, due.failures.as_deref().map(failures_of));
        Ok(true)
    }

    /// What has no story yet, as one piece.
    fn backlog(&mut self, tx: &mut Tx<'_>) -> Result<usize, Fault> {
        if self.room == 0 || self.bytes == 0 {
            return Ok(0);
        }
        let claimed = tx.state.get(self.subscription).map_or(0, |row| row.claimed);
        let mut statement = tx.connection.prepare_cached(BACKLOG)?;
        let mut rows = statement.query(params![self.subscription, claimed, self.room])?;
        let mut piece: Vec<(i64, Result<Message>, usize, bool)> = Vec::new();
        while self.bytes > 0
            && let Some(row) = rows.next()?
        {
            let payload = row.get_ref(7)?.as_blob()?.len();
            self.count(payload);
            piece.push((row.get(0)?, message_of(row, 1)?, payload, row.get(8)?));
        }
        let Some((first, last)) = piece.first().zip(piece.last()).map(|(first, last)| (first.0, last.0)) else { return Ok(0) };
        let count = piece.len();
        let sql = "INSERT INTO abe_lease (subscription, token, first, last, remaining, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        tx.connection.prepare_cached(sql)?.execute(params![self.subscription, self.token, first, last, count, self.until])?;
        let subscription = tx.state.change(self.subscription)?;
        subscription.claimed = last;
        subscription.unsettled += i64::try_from(count).unwrap_or(0);
        for (seq, message, payload, shared) in piece {
            let held = Held { seq, lease: self.token, piece: count, attempt: 1, bytes: bytes_of(payload), shared };
            self.hand_over(held, message, None);
        }
        Ok(count)
    }

    /// A row nobody can read stays under its lease: it is looked at again when that has ended, and holds up nobody else.
    fn hand_over(&mut self, held: Held, message: Result<Message>, failures: Option<Arc<Vec<Failure>>>) {
        match message {
            Ok(message) => self.found.push(Claimed { held, message, failures }),
            Err(error) => tracing::error!(seq = held.seq, %error, "a stored message cannot be read"),
        }
    }
}

/// Takes back the pieces whose lease has ended; what was in them goes on singly, with its attempt counted.
pub(super) fn return_expired(tx: &mut Tx<'_>, subscription: i64) -> Result<usize, Fault> {
    if crate::mutant::is("sqlite-expired-kept") {
        return Ok(0);
    }
    let mut statement = tx.connection.prepare_cached(EXPIRED)?;
    let rows = statement.query_map(params![subscription, tx.now, EXPIRED_MAX], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let expired: Vec<(i64, i64, i64)> = rows.collect::<Result<_, _>>()?;
    drop(statement);
    for (token, first, last) in &expired {
        let attempts = i64::from(!crate::mutant::is("sqlite-attempt-uncounted"));
        let sql = "INSERT INTO abe_delivery (subscription, seq, due, delayed, attempts) \
                   SELECT subscription, seq, ?4, 0, ?5 FROM abe_backlog WHERE subscription = ?1 AND seq BETWEEN ?2 AND ?3";
        let moved = tx.connection.prepare_cached(sql)?.execute([subscription, *first, *last, tx.now, attempts])?;
        let sql = "DELETE FROM abe_backlog WHERE subscription = ?1 AND seq BETWEEN ?2 AND ?3";
        tx.connection.prepare_cached(sql)?.execute([subscription, *first, *last])?;
        let sql = "DELETE FROM abe_lease WHERE subscription = ?1 AND token = ?2";
        tx.connection.prepare_cached(sql)?.execute([subscription, *token])?;
        tx.state.change(subscription)?.unsettled -= i64::try_from(moved).unwrap_or(0);
    }
    Ok(expired.len())
}

/// The message in the columns id, topic, version, time_ms, key, attributes, payload, from column `at` on.
///
/// The inner error is that of a row nobody can read.
pub(super) fn message_of(row: &Row<'_>, at: usize) -> Result<Result<Message>, Fault> {
    let id: &str = row.get_ref(at)?.as_str()?;
    let topic = row.get_ref(at + 1)?.as_str()?;
    let version: u32 = row.get(at + 2)?;
    let time: i64 = row.get(at + 3)?;
    let key = row.get_ref(at + 4)?.as_str_or_null()?.map(CompactString::from);
    let attributes = row.get_ref(at + 5)?.as_str_or_null()?;
    let payload = Bytes::copy_from_slice(row.get_ref(at + 6)?.as_blob()?);
    Ok(build(id, topic, version, time, key, attributes, payload))
}
