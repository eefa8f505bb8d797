//! The child processes: a worker runs the real runtime, a publisher publishes; both end with the supervisor.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::{Messages, Outgoing};
use abe_events::config::Config;
use abe_events::{ErrorKind, Runtime};

use crate::handlers::{self, Ledger};
use crate::history::{History, Stored};
use crate::story::{Class, LATE_MS, Mark, SCRIPT};
use crate::support::{Result, now};

/// The group of all subscriptions.
pub(crate) const GROUP: &str = "chaos";

/// How long a worker may take to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// While a file of this name is there, publishers wait.
pub(crate) const PAUSE: &str = "pause";

/// What a child is told.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
    pub(crate) process: u32,
    pub(crate) lease: Duration,
    /// How many events a publisher publishes.
    pub(crate) count: u32,
    pub(crate) seed: u64,
    pub(crate) ledger: Ledger,
}

/// Dies with the supervisor: it holds the other end of standard input, and never writes.
fn die_with_supervisor() -> Result {
    std::thread::Builder::new().name("supervisor".into()).spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::abort();
    })?;
    Ok(())
}

/// Starts, however long the file is locked or the server away.
async fn start(orders: &Orders, handlers: Vec<&'static abe_events::handler::HandlerDescriptor>, history: Arc<History>) -> Result<Runtime> {
    loop {
        let builder = Runtime::builder().config(Config::default()).url(&orders.url).group(GROUP).lease(orders.lease);
        match builder.shutdown_grace(GRACE).handlers(&handlers).shared_state(history.clone()).start().await {
            Ok(runtime) => return Ok(runtime),
            Err(error) => {
                tracing::warn!(%error, "not started, trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Log lines, for those who look for a fault; what handlers are told to do is no news.
fn log(orders: &Orders) -> Result {
    let file = std::fs::File::options().create(true).append(true).open(orders.folder.join(format!("log-{}.txt", orders.process)))?;
    let filter = tracing_subscriber::EnvFilter::new("warn,abe_events::runtime::lane::verdict=off");
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Arc::new(file)).with_ansi(false).try_init();
    Ok(())
}

/// Handles what comes, until SIGTERM.
pub(crate) async fn worker(orders: Orders) -> Result {
    die_with_supervisor()?;
    log(&orders)?;
    let history = Arc::new(History::new(&orders.folder, "run", orders.process)?);
    let runtime = start(&orders, handlers::all(orders.ledger)?, history).await?;
    let status = std::fs::File::create(status_of(&orders.folder, orders.process))?;
    let watched = runtime.clone();
    let tell = async move {
        loop {
            // Who is told that a worker runs may take it that it listens to signals.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let total = watched.monitor().total();
            let _ = status.write_all_at(format!("{:<12}{:<12}{:<24}", total.pending, total.leases_lost, now()).as_bytes(), 0);
        }
    };
    tokio::select! {
        stopped = runtime.stopped() => Ok(stopped?),
        () = tell => Ok(()),
    }
}

/// Where a worker says how much there is to do.
pub(crate) fn status_of(folder: &Path, process: u32) -> PathBuf {
    folder.join(format!("status-{process}"))
}

/// What a worker said last: how much is pending, how many leases it lost, and when.
pub(crate) fn status(folder: &Path, process: u32) -> Option<(u64, u64, u64)> {
    let text = std::fs::read_to_string(status_of(folder, process)).ok()?;
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    Some((words.next()??, words.next()??, words.next()??))
}

/// Publishes its events in order: alone or in batches, some of them for later.
pub(crate) async fn publisher(orders: Orders) -> Result {
    die_with_supervisor()?;
    log(&orders)?;
    let history = Arc::new(History::new(&orders.folder, "pub", orders.process)?);
    let runtime = start(&orders, handlers::none(), history.clone()).await?;
    let (pause, mut random) = (orders.folder.join(PAUSE), fastrand::Rng::with_seed(orders.seed));
    let mut first = 0;
    while first < orders.count {
        while pause.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let most = match random.u32(0..10) {
            0 => 1,
            1..6 => random.u32(2..64),
            _ => random.u32(100..500),
        };
        let marks: Vec<Mark> = (first..orders.count.min(first + most)).map(|number| Mark { from: orders.process, number }).collect();
        let until = alike(&marks);
        publish(&runtime, &history, &marks[..until]).await?;
        first += u32::try_from(until)?;
    }
    runtime.stop().await;
    Ok(())
}

/// How many of them can be published with one call: all have to have the same delay.
fn alike(marks: &[Mark]) -> usize {
    let is_late = |mark: &Mark| mark.class() == Class::Late;
    marks.iter().position(|mark| is_late(mark) != is_late(&marks[0])).unwrap_or(marks.len())
}

/// Publishes a fixed two hundred events and handles them, in one process; ends when nothing is pending.
pub(crate) async fn script(orders: Orders) -> Result {
    die_with_supervisor()?;
    log(&orders)?;
    let history = Arc::new(History::new(&orders.folder, "run", orders.process)?);
    let runtime = start(&orders, handlers::all(orders.ledger)?, history).await?;
    let published = History::new(&orders.folder, "pub", orders.process)?;
    for range in SCRIPT {
        let marks: Vec<Mark> = range.map(|number| Mark { from: orders.process, number }).collect();
        let mut rest = &marks[..];
        while !rest.is_empty() {
            let (next, after) = rest.split_at(alike(rest).min(7));
            publish(&runtime, &published, next).await?;
            rest = after;
        }
    }
    runtime.settled().await;
    runtime.stop().await;
    let total = runtime.monitor().total();
    Ok(std::fs::write(status_of(&orders.folder, orders.process), format!("{} {} {}", total.pending, total.leases_lost, now()))?)
}

async fn publish(runtime: &Runtime, history: &History, marks: &[Mark]) -> Result {
    let Some(first) = marks.first() else { return Ok(()) };
    let (number, count) = (first.number, u32::try_from(marks.len())?);
    let delay = if first.class() == Class::Late { Duration::from_millis(LATE_MS) } else { Duration::ZERO };
    let messages = Messages::Many(marks.iter().map(|mark| mark.message()).collect::<Result<_>>()?);
    history.publish(Stored::Invoked, number, count)?;
    match runtime.broker().publish(Outgoing { messages, delay, origin: None }).await {
        Ok(_) => history.publish(Stored::Yes, number, count),
        Err(failure) => {
            tracing::warn!(%failure, "not published");
            let certain = matches!(failure.error.kind(), ErrorKind::NotStored | ErrorKind::Full | ErrorKind::TooLarge);
            let stored = u32::try_from(failure.stored)?.min(count);
            if stored > 0 {
                history.publish(Stored::Yes, number, stored)?;
            }
            if stored == count {
                return Ok(());
            }
            history.publish(if certain { Stored::No } else { Stored::Unknown }, number + stored, count - stored)
        }
    }
}
