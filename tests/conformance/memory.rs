//! The suite against the memory broker: each case by name on the paused clock, and the whole table on real threads.

use std::sync::Arc;

use abe_events::BoxError;
use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{Answer, Broker};
use abe_events::conformance::{Backend, Clock, Report, tests};

use crate::shortcut::Shortcut;
use crate::{run_all, say};

/// The memory broker on tokio's paused clock: nothing waits, nothing is late.
pub(crate) const PAUSED: Memory = Memory { clock: Clock::Paused, leased: true, short: false };

/// The same without leases where a case can do without: how the runtime uses it.
const UNLEASED: Memory = Memory { clock: Clock::Paused, leased: false, short: false };

/// The same by its shorter ways: how a plain lane uses it.
const SHORT: Memory = Memory { clock: Clock::Paused, leased: false, short: true };

/// On four threads and the wall clock.
const THREADS: Memory = Memory { clock: Clock::Real, leased: false, short: false };

/// The same by its shorter ways.
const SHORT_THREADS: Memory = Memory { clock: Clock::Real, leased: false, short: true };

/// Opens memory brokers.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    clock: Clock,
    leased: bool,
    short: bool,
}

impl Memory {
    fn shortened(self, broker: MemoryBroker) -> Arc<dyn Broker> {
        let broker: Arc<dyn Broker> = Arc::new(broker);
        if self.short { Arc::new(Shortcut(broker)) } else { broker }
    }
}

impl Backend for Memory {
    fn name(&self) -> &str {
        match (self.clock, self.leased, self.short) {
            (Clock::Paused, true, _) => "memory, paused clock",
            (Clock::Paused, false, false) => "memory without leases, paused clock",
            (Clock::Paused, false, true) => "memory by its shorter ways, paused clock",
            (Clock::Real, _, false) => "memory on four threads",
            (Clock::Real, _, true) => "memory by its shorter ways on four threads",
        }
    }

    fn open<'a>(&'a self, _storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        Answer::ready(Ok(self.shortened(MemoryBroker::new())))
    }

    fn open_without_dead_letters<'a>(&'a self, _storage: &'a str) -> Answer<'a, Result<Option<Arc<dyn Broker>>, BoxError>> {
        Answer::ready(Ok(Some(self.shortened(MemoryBroker::builder().dead_letters_max(0).build()))))
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn leased(&self) -> bool {
        self.leased
    }
}

/// Each case by name, with leases.
mod leased {
    super::tests!(super::PAUSED);
}

/// Each case by name, without.
mod unleased {
    super::tests!(super::UNLEASED);
}

/// Each case by name, by the shorter ways.
mod short {
    super::tests!(super::SHORT);
}

/// What the suite found on the paused clock, for the page.
pub(crate) fn report() -> Report {
    run_all(PAUSED)
}

/// Prints the table, and fails by what it says.
#[test]
fn table_on_threads() {
    for memory in [THREADS, SHORT_THREADS] {
        let report = run_all(memory);
        say(&report);
        report.assert();
    }
}
