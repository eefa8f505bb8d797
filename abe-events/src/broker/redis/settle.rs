//! Settling: verdicts carried out by whoever holds the token, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;

use super::super::fate::{Came, Fate};
use super::super::seat;
use super::error::Fault;
use super::live::Live;
use super::publish::micros;
use super::server::{Arg, Script};
use super::{Shared, reply};

/// How many verdicts one script carries out.
const GROUP_MAX: usize = 1_000;

/// A delivery as its consumer holds it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Its entry.
    entry: Arc<str>,
    /// The token it was handed out with.
    token: Arc<str>,
    attempt: u32,
    message: Arc<str>,
}

impl Held {
    pub(super) fn new(entry: String, token: &str, attempt: u32, message: String) -> Self {
        Self { entry: entry.into(), token: token.into(), attempt, message: message.into() }
    }

    /// Where its entry stands in the stream.
    pub(super) fn position(&self) -> (u64, u64) {
        let (time, number) = self.entry.split_once('-').unwrap_or((&self.entry, ""));
        (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
    }
}

impl seat::Held for Held {
    fn place(&self) -> i64 {
        // A million in a millisecond are told apart.
        let (time, number) = self.position();
        (time << 20).wrapping_add(number).cast_signed()
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A verdict as the script knows it: its letter, its delay, failures, and when.
fn words(fate: &Fate) -> (&'static str, Duration, &str, u64) {
    match fate {
        Fate::Ack => ("A", Duration::ZERO, "", 0),
        Fate::Retry { after, failures } => ("R", *after, failures, 0),
        Fate::Dead { failures, at_ms } => ("D", Duration::ZERO, failures, at_ms.max(&0).cast_unsigned()),
        Fate::Release { after, counted: true } => ("C", *after, "", 0),
        Fate::Release { after, counted: false } => ("L", *after, "", 0),
    }
}

impl Shared {
    /// Carries out what becomes of deliveries.
    pub(super) async fn settle(&self, live: &Live, items: Vec<(Held, Fate)>) -> Result<Vec<Came>, Fault> {
        let mut came = Vec::with_capacity(items.len());
        for group in items.chunks(GROUP_MAX) {
            match self.settle_group(live, group).await {
                Ok(outcomes) => came.extend(outcomes),
                // What went before is settled; the rest is not, or nobody knows.
                Err(fault) if !came.is_empty() => {
                    came.extend(group.iter().map(|_| Came::Failed(fault.failed())));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(came)
    }

    async fn settle_group(&self, live: &Live, items: &[(Held, Fate)]) -> Result<Vec<Came>, Fault> {
        let mut arguments = vec![Arg::Text(&self.names.prefix), Arg::Text(&live.name), Arg::Number(items.len() as u64)];
        for (held, fate) in items {
            let (verdict, after, failures, at) = words(fate);
            arguments.extend([Arg::Text(&held.entry), Arg::Text(&held.token), Arg::Text(verdict), Arg::Number(micros(after))]);
            arguments.extend([Arg::Text(failures), Arg::Number(at), Arg::Text(&held.message)]);
        }
        let answer = self.run(Script::Settle, &arguments).await?;
        live.count(answer.get(1..5).unwrap_or_default());
        let outcomes = reply::list(answer.first());
        let is_end = |fate: &Fate| matches!(fate, Fate::Ack | Fate::Dead { .. });
        let done = |outcome: &Value| *outcome == Value::Int(1);
        live.ended(outcomes.iter().zip(items).filter(|(outcome, (_, fate))| done(outcome) && is_end(fate)).count() as u64);
        live.more.notify_one();
        Ok(outcomes.iter().map(came_of).collect())
    }

    /// Gives back what a consumer does not settle itself, as soon as can be.
    pub(super) fn give_back(self: &Arc<Self>, live: &Arc<Live>, held: Vec<Held>, counted: bool) {
        if held.is_empty() {
            return;
        }
        let (shared, live) = (self.clone(), live.clone());
        // Without a runtime they come again when their lease is over.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { shared.give_back_now(&live, held, counted).await });
        }
    }

    pub(super) async fn give_back_now(&self, live: &Live, held: Vec<Held>, counted: bool) {
        let items = held.into_iter().map(|held| (held, Fate::Release { after: Duration::ZERO, counted })).collect();
        if let Err(fault) = self.settle(live, items).await {
            tracing::debug!(subscription = %live.name, error = %fault.failed(), "what was not settled comes again when its lease is over");
        }
    }

    /// Renews leases; answers for each whether it still stands.
    pub(super) async fn renew(&self, live: &Live, held: &[Held], lease: Duration) -> Result<Vec<bool>, Fault> {
        let count = held.len() as u64;
        let mut arguments = vec![Arg::Text(&self.names.prefix), Arg::Text(&live.name), Arg::Number(micros(lease)), Arg::Number(count)];
        for held in held {
            arguments.extend([Arg::Text(&held.entry), Arg::Text(&held.token)]);
        }
        let kept = self.run(Script::Renew, &arguments).await?;
        Ok(kept.iter().map(|kept| *kept == Value::Int(1)).collect())
    }
}

fn came_of(outcome: &Value) -> Came {
    match outcome {
        Value::Int(1) => Came::Done,
        Value::Int(_) => Came::Lost,
        refused => {
            let text = reply::text(refused);
            let code = text.split_whitespace().next().unwrap_or_default().trim_start_matches('-');
            Came::Failed(Fault::of_code(code).failed())
        }
    }
}
