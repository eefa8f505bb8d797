//! What the suite asks of whoever brings a broker.

use std::sync::Arc;
use std::time::Duration;

use crate::BoxError;
use crate::broker::{Answer, Broker};

/// Opens brokers of one kind for the suite, and declares what their capabilities do not.
///
/// Two methods are needed; the others have defaults that suit a broker on a server. Each case runs on a tokio runtime of its
/// own, several cases at a time, so what a broker needs of a runtime is made in [`open`](Backend::open).
pub trait Backend: Send + Sync + 'static {
    /// What the report calls it.
    fn name(&self) -> &str;

    /// Opens a broker on the storage of this name.
    ///
    /// A name that was not opened before is a storage that is empty and shares nothing with any other: a file, a database, a
    /// prefix. A broker whose [`Durability`](crate::broker::Durability) is more than `Process` is opened a second time on the
    /// same storage after it was closed, and what was stored must be there. Names are 36 bytes: a letter first, then
    /// lower-case letters, digits and `_`. They are new in every run.
    ///
    /// # Errors
    ///
    /// Any; the case fails with its text.
    fn open<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>>;

    /// Removes a storage, after a case has ended with it; the default does nothing.
    ///
    /// Called for every name given to `open`, also if `open` failed, and after the brokers on it were closed; only where a case
    /// panicked or did not end they may still be open.
    ///
    /// # Errors
    ///
    /// Any; a case that passed fails with its text, because what it leaves behind disturbs others.
    fn remove<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<(), BoxError>> {
        let _ = storage;
        Answer::ready(Ok(()))
    }

    /// As [`open`](Backend::open), a broker that cannot store a dead letter: its place is full, or refuses. `None`, which is the
    /// default, if there is no way to have one; case A8 then does not apply.
    ///
    /// # Errors
    ///
    /// Any; the case fails with its text.
    fn open_without_dead_letters<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Option<Arc<dyn Broker>>, BoxError>> {
        let _ = storage;
        Answer::ready(Ok(None))
    }

    /// How time passes for this broker; by default on the wall clock.
    fn clock(&self) -> Clock {
        Clock::Real
    }

    /// A short lease that a healthy case never loses, at least 100 ms; by default 2 s, on the paused clock 60 s.
    fn lease(&self) -> Duration {
        Duration::from_secs(if self.clock() == Clock::Paused { 60 } else { 2 })
    }

    /// Whether cases that are not about leases ask for one; by default they do.
    ///
    /// Without is allowed only where [`leases_optional`](crate::broker::Capabilities::leases_optional) is declared. The
    /// runtime then asks for none either, so such a broker runs the suite both ways.
    fn leased(&self) -> bool {
        true
    }

    /// How late a retry or a delayed message may come; by default 10 s, which a loaded machine keeps, on the paused clock 5 ms.
    /// Nothing waits for it.
    fn lateness(&self) -> Duration {
        match self.clock() {
            // A timer of tokio's has a granularity of one millisecond.
            Clock::Paused => Duration::from_millis(5),
            Clock::Real => Duration::from_secs(10),
        }
    }

    /// Whether a message may arrive twice though nothing failed; by default not, and every case counts strictly.
    fn repeats(&self) -> bool {
        false
    }
}

/// How time passes in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Tokio's paused clock on one thread: waiting costs nothing, and nothing is late. Only for a broker that waits for
    /// nothing but tokio: no thread, file or socket of its own.
    Paused,
    /// The wall clock on several threads.
    Real,
}

/// How large the numbers of the cases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Small numbers, for every build.
    Short,
    /// Full numbers, and waiting five times as long for what must come.
    Stress,
}

impl Size {
    /// As `ABE_CONFORMANCE` says; short unless it says `stress`.
    pub(crate) fn from_env() -> Self {
        if std::env::var("ABE_CONFORMANCE").is_ok_and(|size| size == "stress") { Self::Stress } else { Self::Short }
    }
}
