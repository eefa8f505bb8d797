//! The suite against the memory broker: each case by name on the paused clock, and the whole table on real threads.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::Broker;
//MB

use crate::bench::{Boxed, Check, Clock, Harness, Size};
use crate::table::{CASES, Outcome, for_each_case, run, run_all};

/// The memory broker on tokio's paused clock: nothing waits, nothing is late.
pub(crate) struct Paused;

impl Harness for Paused {
    fn title(&self) -> &'static str {
        "memory, paused clock"
    }

    fn open(&self) -> Boxed<'_, Check<Arc<dyn Broker>>> {
        Box::pin(async { Err("no memory broker yet".into()) })
    }

    fn clock(&self) -> Clock {
        Clock::Paused
    }

    fn tolerance(&self) -> Duration {
        // A timer of tokio's has a granularity of one millisecond.
        Duration::from_millis(5)
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn repeats(&self) -> bool {
        false
    }

    fn refuse_dead_letters<'a>(&'a self, _broker: &'a Arc<dyn Broker>) -> Boxed<'a, Check<bool>> {
        Box::pin(async { Ok(false) })
    }
}

/// The memory broker on four threads and the wall clock.
struct Threads;

impl Harness for Threads {
    fn title(&self) -> &'static str {
        "memory, four threads"
    }

    fn open(&self) -> Boxed<'_, Check<Arc<dyn Broker>>> {
        Paused.open()
    }

    fn clock(&self) -> Clock {
        Clock::Real
    }

    fn tolerance(&self) -> Duration {
        // How late a loaded machine may be; nothing waits for it.
        Duration::from_secs(10)
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn repeats(&self) -> bool {
        false
    }

    fn refuse_dead_letters<'a>(&'a self, broker: &'a Arc<dyn Broker>) -> Boxed<'a, Check<bool>> {
        Paused.refuse_dead_letters(broker)
    }
}

macro_rules! tests {
    ($($id:literal $name:ident in $module:ident, $gate:ident;)*) => {$(
        #[test]
        fn $name() {
            let case = CASES.iter().find(|case| case.id == $id).expect("a case of the table");
            let outcome = run(case, Arc::new(Paused), Size::from_env()).unwrap_or_else(|fault| panic!("{} {}: {fault}", $id, case.name));
            if let Outcome::NotApplicable(why) = outcome {
                say(&format!("conformance {} {}: n/a ({why})\n", $id, case.name));
            }
        }
    )*};
}
for_each_case!(tests);

/// Prints the table, and fails by what it says.
#[test]
fn table_on_threads() {
    let (table, failed) = run_all(&(Arc::new(Threads) as Arc<dyn Harness>), Size::from_env());
    say(&table);
    assert_eq!(failed, 0, "{table}");
}

/// Past the test harness, which would keep it to itself: a case that does not apply must be seen.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
