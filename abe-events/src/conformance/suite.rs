//! Runs cases: each in a thread and on a runtime of its own, so that none can harm another.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::bench::Bench;
use super::table::{CASES, Case, selected};
use super::tools::{Fault, within};
use super::used::Used;
use super::{Backend, Clock, Outcome, Report, Row, Size};
use crate::broker::Capabilities;
use crate::panics::text_of;

/// How many cases run at once on the wall clock; they mostly wait.
const AT_ONCE: usize = 8;

/// How much longer a case's thread may take than the case.
const GRACE: Duration = Duration::from_secs(5);

/// How long the removal of a case's storages may take.
const REMOVAL: Duration = Duration::from_secs(60);

/// A day of paused time: whoever waits longer waits for nothing.
const PAUSED_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The suite for one backend: which cases, how large, how long.
///
/// ```no_run
/// # use abe_events::conformance::Backend;
/// # async fn check(backend: impl Backend) {
/// use abe_events::conformance::{Size, Suite};
///
/// let report = Suite::new(backend).size(Size::Stress).only("retry").run().await;
/// println!("{report}");
/// report.assert();
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a suite does nothing until it is run"]
pub struct Suite {
    backend: Arc<dyn Backend>,
    size: Size,
    cases: Vec<&'static Case>,
    timeout: Duration,
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cases: Vec<&str> = self.cases.iter().map(|case| case.name).collect();
        f.debug_struct("Suite").field("backend", &self.backend.name()).field("size", &self.size).field("cases", &cases).finish()
    }
}

impl Suite {
    /// All cases; in short form, unless `ABE_CONFORMANCE=stress` is in the environment; at most 10 minutes for each.
    pub fn new(backend: impl Backend) -> Self {
        Self {
            backend: Arc::new(backend),
            size: Size::from_env(),
            cases: CASES.iter().collect(),
            // Only to find what hangs: a thousand commits take minutes on a loaded machine.
            timeout: Duration::from_secs(600),
        }
    }

    /// With numbers of this size, whatever the environment says.
    pub fn size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// Only the case of this name or number, or if there is none, those whose name contains it. Nothing found is a report
    /// that has not passed.
    pub fn only(mut self, part: &str) -> Self {
        self.cases = selected(part);
        self
    }

    /// How long a case may take by the wall clock until it has failed. Its thread is given up if it does not end then.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the cases, up to eight at once, or one after another on the paused clock.
    ///
    /// A case that panics, or does not end, has failed; the others go on. Cases run on threads and runtimes of their own,
    /// whatever runtime awaits this.
    ///
    /// # Cancel safety
    ///
    /// If dropped, cases that have begun go on to their end in the background, and no other begins.
    pub async fn run(self) -> Report {
        let nothing = self.report(None, Vec::new());
        let (tell, told) = oneshot::channel();
        let run = move || {
            let report = self.run_while(|| !tell.is_closed());
            // Nobody waits for it any more, and nobody needs it.
            let _ = tell.send(report);
        };
        match thread::Builder::new().name("conformance".into()).spawn(run) {
            // A report without rows has not passed.
            Err(_no_thread) => nothing,
            Ok(_) => told.await.unwrap_or(nothing),
        }
    }

    fn report(&self, capabilities: Option<Capabilities>, rows: Vec<Row>) -> Report {
        Report { backend: self.backend.name().to_owned(), size: self.size, capabilities, rows }
    }

    /// Runs the cases as long as the report is wanted.
    pub(super) fn run_while(&self, wanted: impl Fn() -> bool + Sync) -> Report {
        let (next, declared) = (AtomicUsize::new(0), Arc::new(OnceLock::new()));
        let found: Mutex<Vec<(usize, Row)>> = Mutex::default();
        let at_once = if self.backend.clock() == Clock::Real { AT_ONCE.min(self.cases.len()) } else { 1 };
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while wanted()
                        && let at = next.fetch_add(1, Ordering::SeqCst)
                        && let Some(case) = self.cases.get(at)
                    {
                        let row = Row { id: case.id, name: case.name, outcome: self.run_one(case, &declared) };
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((at, row));
                    }
                });
            }
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(at, _)| *at);
        self.report(declared.get().cloned(), found.into_iter().map(|(_, row)| row).collect())
    }

    /// One case and, however it ended, the removal of its storages.
    fn run_one(&self, case: &'static Case, declared: &Arc<OnceLock<Capabilities>>) -> Outcome {
        let used = Arc::new(Used::default());
        let work = {
            let (backend, size, limit, used, declared) = (self.backend.clone(), self.size, self.timeout, used.clone(), declared.clone());
            move || on_a_runtime(case, backend, size, limit, used, declared)
        };
        let outcome = match apart(case.name, self.timeout + GRACE, work) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(fault)) => Outcome::Fail(fault.0),
            Err(why) => Outcome::Fail(why),
        };
        let storages = used.take_storages();
        let backend = self.backend.clone();
        match apart("removal", REMOVAL, move || remove(&*backend, storages)).map_err(Fault).flatten() {
            Err(fault) if outcome == Outcome::Pass => Outcome::Fail(format!("its storage was not removed: {}", fault.0)),
            _ => outcome,
        }
    }
}

/// Runs a case with the backend's clock, and closes what it opened.
fn on_a_runtime(
    case: &'static Case,
    backend: Arc<dyn Backend>,
    size: Size,
    limit: Duration,
    used: Arc<Used>,
    declared: Arc<OnceLock<Capabilities>>,
) -> Result<Outcome, Fault> {
    let clock = backend.clock();
    let runtime = runtime(clock)?;
    let task = runtime.spawn(async move {
        let bench = Bench::open(backend, size, used.clone()).await?;
        declared.get_or_init(|| bench.broker.capabilities().clone());
        let outcome = match (case.lacks)(bench.broker.capabilities()) {
            Some(capability) => Ok(Outcome::NotApplicable(capability)),
            None => (case.run)(&bench).await,
        };
        let closed = used.close(bench.patience()).await;
        outcome.and_then(|outcome| closed.map(|()| outcome))
    });
    let limit = if clock == Clock::Paused { PAUSED_LIMIT } else { limit };
    let ended = runtime.block_on(async { within("the end of the case", limit, task).await });
    runtime.shutdown_background();
    match ended? {
        Ok(outcome) => outcome,
        Err(ended) if ended.is_panic() => Err(Fault(format!("panicked: {}", text_of(&*ended.into_panic())))),
        Err(ended) => Err(ended.into()),
    }
}

fn runtime(clock: Clock) -> Result<Runtime, Fault> {
    Ok(match clock {
        Clock::Paused => Builder::new_current_thread().enable_all().start_paused(true).build()?,
        Clock::Real => Builder::new_multi_thread().worker_threads(4).enable_all().build()?,
    })
}

fn remove(backend: &dyn Backend, storages: Vec<String>) -> Result<(), Fault> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        for storage in storages {
            backend.remove(&storage).await?;
        }
        Ok(())
    })
}

/// Does something in a thread, and gives the thread up if it does not end.
fn apart<T: Send + 'static>(name: &str, limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (tell, told) = sync_channel(1);
    let work = move || {
        let _ = tell.send(work());
    };
    let thread = thread::Builder::new().name(name.into()).spawn(work).map_err(|error| error.to_string())?;
    match told.recv_timeout(limit) {
        Ok(done) => Ok(done),
        Err(RecvTimeoutError::Timeout) => Err(format!("did not end within {limit:?}; its thread was given up")),
        Err(RecvTimeoutError::Disconnected) => {
            let panic = thread.join().err();
            Err(format!("panicked: {}", panic.as_deref().map_or("in a way that cannot be told", text_of)))
        }
    }
}
