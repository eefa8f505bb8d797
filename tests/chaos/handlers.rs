//! The handlers of a worker: every kind there is, each writing down when it starts and how it ends.

use std::time::Duration;

use abe_events::handler::HandlerDescriptor;
use abe_events::sqlx;
use abe_events::{Batch, BatchOutcome, Context, Error, Message, Outcome, Result, Tx, event, handlers, subscribe};

use crate::history::{History, Lines, Said};
use crate::story::{self, Fate, Mark};

/// What publishers write; the events differ by topic alone.
macro_rules! made {
    ($($topic:literal $name:ident,)+) => {$(
        #[event(topic = $topic)]
        pub(crate) struct $name {
            pub(crate) from: u32,
            pub(crate) number: u32,
            pub(crate) filler: String,
        }

        impl $name {
            fn mark(&self) -> Mark {
                Mark { from: self.from, number: self.number }
            }
        }
    )+};
}

made! {
    "chaos.plain" Plain,
    "chaos.fragile" Fragile,
    "chaos.once" Once,
    "chaos.late" Late,
    "chaos.deadly" Deadly,
}

#[event(topic = "chaos.keyed", key = from)]
pub(crate) struct Keyed {
    pub(crate) from: u32,
    pub(crate) number: u32,
    pub(crate) filler: String,
}

impl Keyed {
    fn mark(&self) -> Mark {
        Mark { from: self.from, number: self.number }
    }
}

/// Nobody publishes it: a publisher's own runtime needs a handler, too.
#[event(topic = "idle.never")]
pub(crate) struct Never {
    pub(crate) nothing: u32,
}

/// Where the effects of `once` go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// Nowhere: it only remembers what it has handled.
    None,
    Sqlite,
    Postgres,
}

/// All that a worker runs.
pub(crate) fn all(ledger: Ledger) -> Result<Vec<&'static HandlerDescriptor>> {
    let mut all = handlers![plain, batch, ordered, fragile, late, deadly].to_vec();
    all.extend(match ledger {
        Ledger::None => handlers![once],
        Ledger::Sqlite => handlers![once_on_sqlite],
        #[cfg(feature = "postgres")]
        Ledger::Postgres => handlers![once_on_postgres],
        #[cfg(not(feature = "postgres"))]
        Ledger::Postgres => return Err(Error::msg("built without the feature `postgres`")),
    });
    Ok(all)
}

/// All that a publisher runs.
pub(crate) fn none() -> Vec<&'static HandlerDescriptor> {
    handlers![never].to_vec()
}

#[subscribe(name = "plain", concurrency = 2, retry(attempts = 5, backoff = fixed, min = "20ms", max = "200ms"))]
async fn plain(event: &Plain, message: Message, ctx: Context, history: &History) -> Result<()> {
    run(history, story::PLAIN, event.mark(), &message, ctx.attempt()).await
}

#[subscribe(name = "ordered", ordered, concurrency = 4, retry(attempts = 4, backoff = fixed, min = "20ms", max = "200ms"))]
async fn ordered(event: &Keyed, message: Message, ctx: Context, history: &History) -> Result<()> {
    run(history, story::ORDERED, event.mark(), &message, ctx.attempt()).await
}

#[subscribe(name = "fragile", retry(attempts = 3, backoff = fixed, min = "30ms", max = "200ms"))]
async fn fragile(event: &Fragile, message: Message, ctx: Context, history: &History) -> Result<()> {
    run(history, story::FRAGILE, event.mark(), &message, ctx.attempt()).await
}

#[subscribe(name = "once", idempotent, retry(attempts = 5, backoff = fixed, min = "20ms", max = "200ms"))]
async fn once(event: &Once, message: Message, ctx: Context, history: &History) -> Result<()> {
    run(history, story::ONCE, event.mark(), &message, ctx.attempt()).await
}

/// What `once` does where there is a ledger: an entry for each event, in the transaction that records it as handled.
macro_rules! ledger {
    ($name:ident, $database:ty) => {
        #[subscribe(name = "once", batch = 64, max_wait = "20ms", retry(attempts = 5, backoff = fixed, min = "20ms", max = "200ms"))]
        async fn $name(events: Batch<Once>, mut tx: Tx<$database>, history: &History) -> Result<()> {
            let mut lines = Lines::default();
            for (event, message) in events.iter().zip(events.messages()) {
                lines.add(if is_whole(event.mark(), message) { Said::Start } else { Said::Damaged }, story::ONCE, event.mark(), 0);
            }
            history.write(&lines)?;
            for event in events.iter() {
                sqlx::query("INSERT INTO chaos_ledger (mark) VALUES ($1)").bind(event.mark().as_number()).execute(&mut *tx).await?;
            }
            wait(u64::from(events.iter().next().map_or(0, |event| event.number))).await;
            // Now and then it fails with everything written, and all of it is undone.
            let fails = fastrand::u32(0..50) == 0;
            let mut lines = Lines::default();
            for event in events.iter() {
                lines.add(if fails { Said::Failed } else { Said::Done }, story::ONCE, event.mark(), 0);
            }
            history.write(&lines)?;
            if fails { Err(Error::msg("failed, as it should")) } else { Ok(()) }
        }
    };
}

ledger!(once_on_sqlite, sqlx::Sqlite);
#[cfg(feature = "postgres")]
ledger!(once_on_postgres, sqlx::Postgres);

#[subscribe(name = "late", retry(attempts = 5, backoff = fixed, min = "20ms", max = "200ms"))]
async fn late(event: &Late, message: Message, ctx: Context, history: &History) -> Result<()> {
    run(history, story::LATE, event.mark(), &message, ctx.attempt()).await
}

#[subscribe(name = "deadly", concurrency = 2, retry(attempts = 5, backoff = fixed, min = "20ms", max = "200ms"))]
async fn deadly(event: &Deadly, message: Message, ctx: Context, history: &History) -> Result<()> {
    run(history, story::DEADLY, event.mark(), &message, ctx.attempt()).await
}

#[subscribe(name = "idle.never")]
async fn never(_event: &Never) {}

/// A batch of the same events that `plain` takes one by one; some of its items have to come again.
#[subscribe(name = "batch", batch = 50, max_wait = "20ms", retry(attempts = 5, backoff = fixed, min = "20ms", max = "200ms"))]
async fn batch(events: Batch<Plain>, history: &History) -> Result<BatchOutcome> {
    let mut lines = Lines::default();
    for (event, message) in events.iter().zip(events.messages()) {
        lines.add(if is_whole(event.mark(), message) { Said::Start } else { Said::Damaged }, story::BATCH, event.mark(), 0);
    }
    history.write(&lines)?;
    wait(u64::from(events.iter().next().map_or(0, |event| event.number))).await;
    let (mut lines, mut outcome) = (Lines::default(), BatchOutcome::others(Outcome::ack()));
    for (at, event) in events.iter().enumerate() {
        let again = fastrand::u32(0..200) == 0;
        if again {
            outcome.set(at, Outcome::retry());
        }
        lines.add(if again { Said::Failed } else { Said::Done }, story::BATCH, event.mark(), 0);
    }
    history.write(&lines)?;
    Ok(outcome)
}

/// What every handler of one event does.
async fn run(history: &History, subscription: usize, mark: Mark, message: &Message, attempt: u32) -> Result<()> {
    let say = |said| history.run(said, subscription, mark, attempt).map_err(Error::from);
    say(Said::Start)?;
    if !is_whole(mark, message) {
        say(Said::Damaged)?;
    }
    wait(u64::from(mark.number)).await;
    let again = match mark.fate() {
        Fate::Kills => std::process::abort(),
        Fate::Good => false,
        Fate::FailsOnce => attempt == 1,
        Fate::FailsAlways => true,
        Fate::Refused => {
            say(Said::Dead)?;
            return Err(Error::permanent("refused, as it should be"));
        }
    };
    if !again {
        return say(Said::Done);
    }
    say(if attempt >= story::ATTEMPTS[subscription] { Said::Dead } else { Said::Failed })?;
    Err(Error::msg("failed, as it should"))
}

/// Whether everything about a message is as its publisher made it.
fn is_whole(mark: Mark, message: &Message) -> bool {
    let bytes = message.payload().to_bytes().unwrap_or_default();
    let key = mark.key().map(|key| format!("{}-{key}", mark.from));
    bytes == mark.body().as_bytes() && *message.id() == mark.id() && message.key() == key.as_deref()
}

/// Most events take no time, some a little, few longer.
async fn wait(number: u64) {
    let dice = story::mix(number) % 4_096;
    if dice < 64 {
        tokio::time::sleep(Duration::from_millis(if dice == 0 { 50 } else { 2 })).await;
    }
}
