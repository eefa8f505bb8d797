//! Claiming: what is due, under a lease and with its attempt counted, before anyone gets to see it.
//!
//! One task claims for all lanes of a subscription, as long as any lane waits: what several ask for is one statement.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::failures::failures_of;
use super::super::fate::Fate;
use super::super::seat;
use super::db::{Db, Sql, Values};
use super::error::Fault;
use super::live::{Live, Lives};
use super::queue::Queue;
use super::settle::{Held, Settle};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::wire::columns::build;

pub(super) type Claimed = seat::Claimed<Held>;

/// How many messages one statement hands out.
const CLAIM_MAX: usize = 1_000;

/// How many that are due one statement lets go.
const PROMOTE_MAX: i64 = 1_000;

/// What was claimed; whatever is not taken out is given back, as if it had not been handed out.
#[derive(Debug)]
pub(super) struct Handout {
    found: Vec<Claimed>,
    /// From when the lease counts, or a little earlier.
    pub(super) began: Instant,
    live: Arc<Live>,
    settles: Arc<Queue<Settle>>,
}

impl Handout {
    pub(super) fn take(&mut self) -> Vec<Claimed> {
        std::mem::take(&mut self.found)
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        if !self.found.is_empty() {
            let items =
                self.found.drain(..).map(|claimed| (claimed.held, Fate::Release { after: Duration::ZERO, counted: false })).collect();
            let _ = self.settles.push(Settle::unasked(self.live.clone(), items));
        }
    }
}

/// A lane that waits for something.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) max: usize,
    /// How many bytes, beyond which no further message is added.
    pub(super) bytes_max: usize,
    pub(super) lease: Duration,
    pub(super) reply: oneshot::Sender<Result<Handout>>,
}

/// The lanes that wait, and whether somebody claims for them.
#[derive(Debug, Default)]
pub(super) struct Asks(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    asks: VecDeque<Ask>,
    served: bool,
    /// When it was last looked for what is due.
    promoted: Option<Instant>,
}

impl Asks {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that can share a statement; nothing when nobody waits, and then nobody is served any more.
    fn next(&self) -> Vec<Ask> {
        let mut waiting = self.lock();
        // Nobody waits for their answer any more.
        waiting.asks.retain(|ask| !ask.reply.is_closed());
        let Some(lease) = waiting.asks.front().map(|ask| ask.lease) else {
            waiting.served = false;
            return Vec::new();
        };
        let (mut group, mut others, mut count) = (Vec::new(), VecDeque::new(), 0);
        for ask in waiting.asks.drain(..) {
            if ask.lease == lease && count < CLAIM_MAX {
                count += ask.max;
                group.push(ask);
            } else {
                others.push_back(ask);
            }
        }
        waiting.asks = others;
        group
    }

    /// Whether it is time to look for what is due, and if so, that this is done now.
    fn promotes(&self, live: &Live, poll: Duration) -> bool {
        let (now, mut waiting) = (Instant::now(), self.lock());
        let due = live.due().is_some_and(|due| due <= now) || waiting.promoted.is_none_or(|last| now.duration_since(last) >= poll);
        if due {
            waiting.promoted = Some(now);
        }
        due
    }

    fn put_back(&self, group: Vec<Ask>) {
        let mut waiting = self.lock();
        for ask in group.into_iter().rev() {
            waiting.asks.push_front(ask);
        }
    }
}

/// What claiming needs.
#[derive(Debug)]
pub(super) struct Claims {
    db: Db,
    lives: Arc<Lives>,
    settles: Arc<Queue<Settle>>,
    poll: Duration,
    pub(super) claim: Sql,
    promote: Sql,
}

/// The end of serving, however it comes.
struct Serving<'a>(Option<&'a Asks>);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let Some(asks) = self.0 else { return };
        let mut waiting = asks.lock();
        waiting.served = false;
        let left = std::mem::take(&mut waiting.asks);
        drop(waiting);
        // Those who wait learn that nobody answers.
        drop(left);
    }
}

impl Claims {
    pub(super) fn new(db: Db, lives: Arc<Lives>, settles: Arc<Queue<Settle>>, poll: Duration) -> Self {
        let mut claim = include_str!("claim.sql").to_owned();
        for (mutant, sound, broken) in [
            ("postgres-attempt-uncounted", "d.attempts + 1", "d.attempts"),
            ("postgres-order-off", "e.place < d.place", "false"),
            ("postgres-rival-unseen", "{alone}", "true OR"),
            ("postgres-cursor", "{since}", "d.place > $6"),
        ] {
            if crate::mutant::is(mutant) {
                claim = claim.replace(sound, broken);
            }
        }
        let claim = db.sql(&claim.replace("{since}", "$6::bigint IS NOT NULL").replace("{alone}", ""));
        let promote = db.sql(include_str!("promote.sql"));
        Self { db, lives, settles, poll, claim, promote }
    }

    /// Lets a lane wait for something.
    pub(super) fn ask(self: &Arc<Self>, live: &Arc<Live>, ask: Ask) {
        let mut waiting = live.asks.lock();
        waiting.asks.push_back(ask);
        if !std::mem::replace(&mut waiting.served, true) {
            let (claims, live) = (self.clone(), live.clone());
            tokio::spawn(async move { claims.serve(&live).await });
        }
    }

    /// Claims as long as any lane waits.
    async fn serve(&self, live: &Arc<Live>) {
        let mut cursor = i64::MIN;
        let mut serving = Serving(Some(&live.asks));
        loop {
            let group = live.asks.next();
            if group.is_empty() {
                // `next` has noted that nobody is served; the next lane that asks may be served by another task already.
                serving.0 = None;
                return;
            }
            match self.look(live, &group, &mut cursor).await {
                Ok(found) if found.is_empty() => {
                    live.asks.put_back(group);
                    self.wait(live).await;
                }
                Ok(found) => self.hand_out(live, group, found),
                Err(error) => {
                    for ask in group {
                        let _ = ask.reply.send(Err(Error::new(error.kind(), error.to_string())));
                    }
                }
            }
        }
    }

    /// Lets go what is due, and claims.
    async fn look(&self, live: &Arc<Live>, group: &[Ask], cursor: &mut i64) -> Result<Found> {
        if live.asks.promotes(live, self.poll) {
            self.promote(live).await.map_err(|fault| fault.failed())?;
        }
        self.claim(live, group, cursor).await.map_err(|fault| fault.failed())
    }

    async fn promote(&self, live: &Live) -> Result<(), Fault> {
        live.take_due();
        let changing = self.lives.changing();
        loop {
            let rows = self.db.run(&self.promote, Values::default().and(live.number).and(PROMOTE_MAX)).await?;
            let Some(row) = rows.first() else { break };
            let count: i64 = row.try_get(0).map_err(Fault::of)?;
            let next: Option<i64> = row.try_get(1).map_err(Fault::of)?;
            live.counters.delayed.fetch_sub(count, Ordering::Relaxed);
            live.counters.ready.fetch_add(count, Ordering::Relaxed);
            if count < PROMOTE_MAX {
                if let Some(micros) = next {
                    live.due_in(Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
                }
                break;
            }
        }
        drop(changing);
        Ok(())
    }

    pub(super) async fn claim(&self, live: &Arc<Live>, group: &[Ask], cursor: &mut i64) -> Result<Found, Fault> {
        let max = group.iter().map(|ask| ask.max).sum::<usize>().min(CLAIM_MAX);
        let bytes = group.iter().fold(0_usize, |sum, ask| sum.saturating_add(ask.bytes_max));
        let lease = group.first().map_or(Duration::ZERO, |ask| ask.lease);
        // Random, so that not even a server that lost its latest commits gives the same twice.
        let token = fastrand::i64(1..);
        let values = Values::default()
            .and(live.number)
            .and(i64::try_from(max).unwrap_or(i64::MAX))
            .and(i64::try_from(bytes).unwrap_or(i64::MAX))
            .and(super::publish::micros(lease).unwrap_or(0))
            .and(token)
            .and(*cursor);
        let began = Instant::now();
        let changing = self.lives.changing();
        let rows = self.db.run(&self.claim, values).await?;
        let mut found = Found { began, rows: Vec::with_capacity(rows.len()) };
        let mut again = 0;
        for row in &rows {
            let (held, was_held, message, failures) = read(row, token).map_err(Fault::of)?;
            again += i64::from(was_held);
            *cursor = held.place.max(*cursor);
            match message {
                Ok(message) => found.rows.push(Claimed { held, message, failures }),
                // It stays under its lease: it is looked at again when that has ended, and holds up nobody else.
                Err(error) => tracing::error!(place = held.place, %error, "a stored message cannot be read"),
            }
        }
        let fresh = i64::try_from(rows.len()).unwrap_or(0) - again;
        live.counters.ready.fetch_sub(fresh, Ordering::Relaxed);
        live.counters.unsettled.fetch_add(fresh, Ordering::Relaxed);
        drop(changing);
        found.rows.sort_by_key(|claimed| claimed.held.place);
        Ok(found)
    }

    /// To those who asked first, each as much as it asked for; who got nothing waits on.
    fn hand_out(&self, live: &Arc<Live>, group: Vec<Ask>, found: Found) {
        let handout = |found: Vec<Claimed>, began| Handout { found, began, live: live.clone(), settles: self.settles.clone() };
        let mut rows = found.rows.into_iter().peekable();
        let mut left = Vec::new();
        for ask in group {
            if rows.peek().is_none() {
                left.push(ask);
                continue;
            }
            let (mut some, mut bytes) = (Vec::new(), ask.bytes_max);
            while some.len() < ask.max && bytes > 0 {
                let Some(claimed) = rows.next() else { break };
                bytes = bytes.saturating_sub(usize::try_from(claimed.held.bytes).unwrap_or(usize::MAX));
                some.push(claimed);
            }
            // A handout that nobody takes gives itself back.
            let _ = ask.reply.send(Ok(handout(some, found.began)));
        }
        drop(handout(rows.collect(), found.began));
        live.asks.put_back(left);
    }

    /// Until there may be something.
    async fn wait(&self, live: &Live) {
        let poll = Instant::now() + self.poll.mul_f64(0.75 + fastrand::f64() / 2.0);
        let then = live.due().map_or(poll, |due| due.min(poll));
        tokio::select! {
            () = live.more.notified() => {}
            () = tokio::time::sleep_until(then) => {}
        }
    }
}

/// What a statement claimed, in the order of places.
pub(super) struct Found {
    began: Instant,
    pub(super) rows: Vec<Claimed>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

type Read = (Held, bool, Result<Message>, Option<Arc<Vec<super::super::Failure>>>);

fn read(row: &PgRow, token: i64) -> Result<Read, sqlx::Error> {
    let attempts: i32 = row.try_get(1)?;
    let failures: Option<&str> = row.try_get(2)?;
    let held = Held { place: row.try_get(0)?, token, attempt: u32::try_from(attempts).unwrap_or(0).max(1), bytes: row.try_get(3)? };
    Ok((held, row.try_get(4)?, message_of(row, 5)?, failures.map(failures_of)))
}

/// The message in the columns id, topic, version, time_ms, key, attributes, payload, from column `at` on.
///
/// The inner error is that of a row nobody can read.
pub(super) fn message_of(row: &PgRow, at: usize) -> Result<Result<Message>, sqlx::Error> {
    let version: i64 = row.try_get(at + 2)?;
    let key: Option<&[u8]> = row.try_get(at + 4)?;
    let payload: &[u8] = row.try_get(at + 6)?;
    let key = key.map(|key| String::from_utf8_lossy(key).as_ref().into());
    Ok(build(
        row.try_get(at)?,
        row.try_get(at + 1)?,
        u32::try_from(version).unwrap_or(u32::MAX),
        row.try_get(at + 3)?,
        key,
        row.try_get(at + 5)?,
        Bytes::copy_from_slice(payload),
    ))
}
