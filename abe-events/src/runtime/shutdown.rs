//! Shutdown as a story: running → draining → stopped, with a deadline, and a second way out.
//!
//! Draining: half-full batches run with what they have. Where the messages end with the process, what is waiting is handled
//! as well; then, or at once where they outlive it, no lane starts anything new. What runs goes on with a live context, and
//! verdicts are carried out. At the end of the grace time what still runs is dropped and released: it costs no attempt, and
//! it is never dead-lettered for our own shutdown.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::sync::AtomicUsize;

/// Where a runtime is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RuntimeState {
    /// Connecting and subscribing.
    Starting,
    /// Taking and handling messages.
    Running,
    /// Finishing what is in flight; nothing new is started.
    Draining,
    /// Nothing runs any more.
    Stopped,
}

/// A state that only goes forward; each step is made by exactly one caller.
#[derive(Debug)]
struct Latch(AtomicUsize);

impl Latch {
    /// Goes on to a state; `true` for the one caller that made the step.
    fn advance(&self, to: RuntimeState) -> bool {
        let code = to as usize;
        self.0.fetch_max(code, Ordering::AcqRel) < code
    }

    fn state(&self) -> RuntimeState {
        match self.0.load(Ordering::Acquire) {
            0 => RuntimeState::Starting,
            1 => RuntimeState::Running,
            2 => RuntimeState::Draining,
            _ => RuntimeState::Stopped,
        }
    }
}

/// The way from running to stopped, readable without a lock.
#[derive(Debug)]
pub(crate) struct Shutdown {
    latch: Latch,
    /// Whether what waits ends with the process, and is handled before the end of starts.
    pub(crate) empties_queues: bool,
    /// Cancelled when draining begins.
    pub(crate) draining: CancellationToken,
    /// Cancelled when nothing new is to be started: to wait for. Lanes ask for every message, and a token takes a lock to
    /// answer: they ask [`Shutdown::is_last_start`].
    last_start: CancellationToken,
    /// Set before `last_start` is cancelled, so that whoever it wakes sees it.
    starts_ended: AtomicBool,
    /// Cancelled at the end of the grace time, or on a second signal.
    pub(crate) cancel: CancellationToken,
    /// Cancelled when the last lane has ended.
    pub(crate) stopped: CancellationToken,
}

impl Shutdown {
    pub(crate) fn new(empties_queues: bool) -> Self {
        Self {
            latch: Latch(AtomicUsize::new(0)),
            empties_queues,
            draining: CancellationToken::new(),
            last_start: CancellationToken::new(),
            starts_ended: AtomicBool::new(false),
            cancel: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    pub(crate) fn state(&self) -> RuntimeState {
        self.latch.state()
    }

    /// Nothing new is to be started from now on.
    pub(crate) fn end_starts(&self) {
        self.starts_ended.store(true, Ordering::Release);
        self.last_start.cancel();
    }

    /// Whether nothing new is to be started.
    pub(crate) fn is_last_start(&self) -> bool {
        self.starts_ended.load(Ordering::Acquire)
    }

    /// Ready when nothing new is to be started.
    pub(crate) fn last_start(&self) -> WaitForCancellationFutureOwned {
        self.last_start.clone().cancelled_owned()
    }

    /// Goes on to a state; never back. `true` for the one caller that made the step.
    pub(crate) fn advance(&self, to: RuntimeState) -> bool {
        if to == RuntimeState::Draining && !self.empties_queues {
            // Before anybody can see that it drains: whoever then lets a handler end must not let the next one begin.
            self.end_starts();
        }
        let stepped = self.latch.advance(to);
        if stepped {
            match to {
                RuntimeState::Starting | RuntimeState::Running => {}
                RuntimeState::Draining => self.draining.cancel(),
                RuntimeState::Stopped => {
                    self.draining.cancel();
                    self.end_starts();
                    self.cancel.cancel();
                    self.stopped.cancel();
                }
            }
        }
        stepped
    }
}

/// How a shutdown ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// Everything in flight was finished within the grace time.
    Drained,
    /// The same, but so many messages were due only later and ended with the process: the memory broker keeps nothing.
    LeftBehind {
        /// How many.
        messages: u64,
    },
    /// The grace time ended, or a second signal came, while these handlers still ran; their messages were released.
    Cut {
        /// The handlers' names.
        handlers: Vec<String>,
    },
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("everything in flight was finished"),
            Self::LeftBehind { messages } => {
                write!(f, "everything in flight was finished, but {messages} messages due later ended with the process")
            }
            Self::Cut { handlers } => write!(f, "still running at the end of the grace time: {}", handlers.join(", ")),
        }
    }
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

#[cfg(all(test, not(abe_loom)))]
mod tests {
    use std::future::Future as _;
    use std::sync::Arc;
    use std::task::{Context, Wake};

    use super::*;

    #[test]
    fn states_only_go_forward_and_one_caller_makes_each_step() {
        let shutdown = Shutdown::new(true);
        assert!(shutdown.advance(RuntimeState::Running));
        assert!(shutdown.advance(RuntimeState::Draining) && !shutdown.advance(RuntimeState::Draining));
        assert!(shutdown.draining.is_cancelled() && !shutdown.is_last_start() && !shutdown.cancel.is_cancelled());
        assert!(!shutdown.advance(RuntimeState::Running));
        assert!(shutdown.advance(RuntimeState::Stopped));
        assert_eq!(shutdown.state(), RuntimeState::Stopped);
        assert!(shutdown.stopped.is_cancelled() && shutdown.is_last_start() && shutdown.last_start.is_cancelled());
    }

    /// Whether starts had ended when it was woken.
    struct AtWaking(Arc<Shutdown>, AtomicBool);

    impl Wake for AtWaking {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.is_last_start(), Ordering::Release);
        }
    }

    #[test]
    fn where_nothing_is_lost_by_it_starts_end_before_anybody_sees_the_draining() {
        for empties_queues in [false, true] {
            let shutdown = Arc::new(Shutdown::new(empties_queues));
            let seen = Arc::new(AtWaking(shutdown.clone(), AtomicBool::new(false)));
            let mut draining = Box::pin(shutdown.draining.cancelled());
            assert!(draining.as_mut().poll(&mut Context::from_waker(&seen.clone().into())).is_pending());
            shutdown.advance(RuntimeState::Draining);
            assert_eq!(seen.1.load(Ordering::Acquire), !empties_queues);
        }
    }
}

#[cfg(all(test, abe_loom))]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    #[test]
    fn loom_each_step_is_made_by_one_caller_and_no_state_comes_back() {
        loom::model(|| {
            let latch = Arc::new(Latch(AtomicUsize::new(RuntimeState::Running as usize)));
            let other = latch.clone();
            let thread = loom::thread::spawn(move || {
                let drained = other.advance(RuntimeState::Draining);
                (drained, other.advance(RuntimeState::Stopped))
            });
            let drained = latch.advance(RuntimeState::Draining);
            let seen = latch.state();
            let stopped = latch.advance(RuntimeState::Stopped);
            assert!(seen >= RuntimeState::Draining && latch.state() >= seen);
            let (other_drained, other_stopped) = match thread.join() {
                Ok(steps) => steps,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            assert!(!(drained && other_drained), "one drains");
            assert!(stopped != other_stopped, "one stops");
        });
    }
}
