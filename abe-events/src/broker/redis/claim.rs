//! Claiming: what is due, under a lease and with its attempt counted, before anyone gets to see it.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ::redis::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::failures::{failures_of, failures_text};
use super::super::fate::Fate;
use super::super::seat;
use super::super::{Failure, FailureKind};
use super::error::Fault;
use super::live::Live;
use super::publish::micros;
use super::read::Entry;
use super::server::{Arg, Script};
use super::settle::Held;
use super::{Shared, reply};
use crate::error::Result;

pub(super) type Claimed = seat::Claimed<Held>;

/// How many messages one script hands out.
const CLAIM_MAX: usize = 1_000;

/// How often it is looked, whatever was told.
const POLL: Duration = Duration::from_millis(500);

/// How much a lane asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) max: usize,
    pub(super) bytes_max: usize,
    pub(super) lease: Duration,
}

/// What was claimed; whatever is not taken out is given back, as if it had not been handed out.
#[derive(Debug)]
pub(super) struct Handout {
    found: Vec<Claimed>,
    /// From when the lease counts, or a little earlier.
    pub(super) began: Instant,
    live: Arc<Live>,
    shared: Arc<Shared>,
}

impl Handout {
    pub(super) fn take(&mut self) -> Vec<Claimed> {
        std::mem::take(&mut self.found)
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        let unseen: Vec<Held> = self.found.drain(..).map(|claimed| claimed.held).collect();
        self.shared.give_back(&self.live, unseen, false);
    }
}

/// Waits until something is handed out.
pub(super) async fn find(shared: &Arc<Shared>, live: &Arc<Live>, ask: Ask) -> Result<Handout> {
    let (handout, _) = look(shared, live, ask).await?;
    if !handout.found.is_empty() {
        return Ok(handout);
    }
    // Of those who found nothing, one looks again and the others stand behind.
    let _turn = live.turn.lock().await;
    loop {
        let (handout, wait) = look(shared, live, ask).await?;
        if !handout.found.is_empty() {
            // What is left is for the next.
            live.more.notify_one();
            return Ok(handout);
        }
        let until = Instant::now() + wait.min(POLL.mul_f64(0.75 + fastrand::f64() / 2.0));
        let _ = tokio::time::timeout_at(until, live.more.notified()).await;
    }
}

/// Claims once. Who does not wait for the answer any more does not get it, and it is given back.
async fn look(shared: &Arc<Shared>, live: &Arc<Live>, ask: Ask) -> Result<(Handout, Duration)> {
    let (reply, answer) = oneshot::channel();
    let (shared, live) = (shared.clone(), live.clone());
    tokio::spawn(async move {
        let _ = reply.send(claim(&shared, &live, ask).await);
    });
    answer.await.map_err(|_| super::ended())?.map_err(|fault| fault.failed())
}

async fn claim(shared: &Arc<Shared>, live: &Arc<Live>, ask: Ask) -> Result<(Handout, Duration), Fault> {
    // Random, so that not even a server that lost its latest writes gives the same twice.
    let token = format!("{:016x}", fastrand::u64(..));
    let arguments = [
        Arg::Text(&shared.names.prefix),
        Arg::Text(&live.name),
        Arg::Number(ask.max.min(CLAIM_MAX) as u64),
        Arg::Number(ask.bytes_max as u64),
        Arg::Number(micros(ask.lease)),
        Arg::Text(&token),
        Arg::Number(u64::from(live.ordered)),
    ];
    let began = Instant::now();
    let answer = match shared.run(Script::Claim, &arguments).await {
        Ok(answer) if answer.len() < 7 => return Err(shared.make_again(live).await),
        // The stream is gone, and with it what waited.
        Err(Fault::Gone) => return Err(shared.make_again(live).await),
        other => other?,
    };
    live.count(&answer[1..5]);
    let lost = reply::number(answer.get(6));
    if lost > 0 {
        tracing::error!(subscription = %live.name, lost, "entries of a stream were taken away from outside: their messages are lost");
    }
    let wait = reply::number(answer.get(5));
    let wait = u64::try_from(wait).map_or(Duration::MAX, |micros| Duration::from_micros(micros + 1_000));
    let mut handout = Handout { found: Vec::new(), began, live: live.clone(), shared: shared.clone() };
    let mut unreadable = Vec::new();
    for one in reply::list(answer.first()) {
        match read(one, &token) {
            Ok((claimed, bytes)) => {
                live.weigh(bytes);
                handout.found.push(claimed);
            }
            Err(letter) => unreadable.push(letter),
        }
    }
    handout.found.sort_by_key(|claimed| claimed.held.position());
    if !unreadable.is_empty() {
        shared.settle(live, unreadable).await?;
    }
    Ok((handout, wait))
}

/// A delivery, or what becomes of one that nobody can read.
fn read(one: &Value, token: &str) -> Result<(Claimed, usize), (Held, Fate)> {
    let nothing = Value::Nil;
    let [id, attempts, failures, fields] = reply::list(Some(one)) else {
        let held = Held::new(String::new(), token, 1, String::new());
        return Err((held, Fate::Release { after: POLL, counted: true }));
    };
    let entry = Entry::new(id, fields);
    let attempt = u32::try_from(reply::number(Some(attempts))).unwrap_or(u32::MAX).max(1);
    let failures = Some(failures).filter(|text| **text != nothing && !reply::bytes(text).is_empty());
    match entry.message() {
        Ok(message) => {
            let held = Held::new(entry.id.clone(), token, attempt, message.id().to_string());
            let failures = failures.map(|text| failures_of(&reply::text(text)));
            Ok((Claimed { held, message, failures }, entry.bytes()))
        }
        Err(error) => {
            let failure = Failure::new(FailureKind::Undecodable, attempt, format_args!("this is no message: {error}"));
            let at = failure.at.duration_since(UNIX_EPOCH).unwrap_or_default();
            let fate = Fate::Dead { failures: failures_text(&[failure]), at_ms: i64::try_from(at.as_millis()).unwrap_or(i64::MAX) };
            let message = entry.as_bytes().map(|message| message.id().to_string()).unwrap_or_else(|_| entry.id.clone());
            Err((Held::new(entry.id.clone(), token, attempt, message), fate))
        }
    }
}
