//! The suite against the memory broker: each case by name on the paused clock, and the whole table on real threads.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::Broker;
use abe_events::broker::memory::MemoryBroker;

use crate::bench::{Boxed, Check, Clock, Harness, Size};
use crate::shortcut::Shortcut;
use crate::table::{CASES, Outcome, for_each_case, run, run_all};

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

impl Harness for Memory {
    fn title(&self) -> &'static str {
        match (self.clock, self.leased, self.short) {
            (Clock::Paused, true, _) => "memory, paused clock",
            (Clock::Paused, false, false) => "memory without leases, paused clock",
            (Clock::Paused, false, true) => "memory by its shorter ways, paused clock",
            (Clock::Real, _, false) => "memory on four threads",
            (Clock::Real, _, true) => "memory by its shorter ways on four threads",
        }
    }

    fn open(&self) -> Boxed<'_, Check<Arc<dyn Broker>>> {
        Box::pin(async { Ok(self.shortened(MemoryBroker::new())) })
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn tolerance(&self) -> Duration {
        match self.clock {
            // A timer of tokio's has a granularity of one millisecond.
            Clock::Paused => Duration::from_millis(5),
            // How late a loaded machine may be; nothing waits for it.
            Clock::Real => Duration::from_secs(10),
        }
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(if self.clock == Clock::Paused { 60 } else { 2 })
    }

    fn usual_lease(&self) -> Option<Duration> {
        self.leased.then(|| self.lease())
    }

    fn repeats(&self) -> bool {
        false
    }

    fn open_without_dead_letters(&self) -> Boxed<'_, Check<Option<Arc<dyn Broker>>>> {
        Box::pin(async { Ok(Some(self.shortened(MemoryBroker::builder().dead_letters_max(0).build()))) })
    }
}

/// Runs a case by its number; one that does not apply says so, past the test harness, which would keep it to itself.
fn hold(id: &str, memory: Memory) {
    let Some(case) = CASES.iter().find(|case| case.id == id) else { panic!("{id} is not in the table") };
    match run(case, Arc::new(memory), Size::from_env()) {
        Ok(Outcome::Pass) => {}
        Ok(Outcome::NotApplicable(why)) => say(&format!("conformance {id} {}: n/a ({why})\n", case.name)),
        Err(fault) => panic!("{id} {}: {fault}", case.name),
    }
}

macro_rules! tests {
    ($($id:literal $name:ident in $module:ident, $gate:ident;)*) => {
        /// Each case by name, with leases.
        mod leased {
            $(#[test] fn $name() { super::hold($id, super::PAUSED); })*
        }

        /// Each case by name, without.
        mod unleased {
            $(#[test] fn $name() { super::hold($id, super::UNLEASED); })*
        }

        /// Each case by name, by the shorter ways.
        mod short {
            $(#[test] fn $name() { super::hold($id, super::SHORT); })*
        }
    };
}
for_each_case!(tests);

/// Prints the table, and fails by what it says.
#[test]
fn table_on_threads() {
    for memory in [THREADS, SHORT_THREADS] {
        let (table, failed) = run_all(&(Arc::new(memory) as Arc<dyn Harness>), Size::from_env());
        say(&table);
        assert_eq!(failed, 0, "{table}");
    }
}

pub(crate) fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
