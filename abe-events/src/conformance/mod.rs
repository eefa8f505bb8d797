//! The conformance suite: what a broker promises, written once against the seam, for any broker to run.
//!
//! A [`Backend`] says how a broker is opened; [`run`] puts it to every promise of [`Broker`](crate::broker::Broker)'s contract.
//! Cases are chosen by the broker's [`Capabilities`](crate::broker::Capabilities): what it does not declare is shown as n/a
//! with the capability, and what it declares it must keep. A panic or a hang is a failure of its case alone.
//!
//! ```
//! use std::sync::Arc;
//!
//! use abe_events::BoxError;
//! use abe_events::broker::memory::MemoryBroker;
//! use abe_events::broker::{Answer, Broker};
//! use abe_events::conformance::{Backend, Clock, Suite};
//!
//! /// How the suite opens the broker; here the memory broker stands for your own.
//! struct Mine;
//!
//! impl Backend for Mine {
//!     fn name(&self) -> &str {
//!         "mine"
//!     }
//!
//!     fn open<'a>(&'a self, _storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
//!         Answer::ready(Ok(Arc::new(MemoryBroker::new())))
//!     }
//!
//!     // Lives in this process and waits for nothing but tokio.
//!     fn clock(&self) -> Clock {
//!         Clock::Paused
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! // All of it: `conformance::run(Mine).await.assert()`.
//! let report = Suite::new(Mine).only("retry").run().await;
//! println!("{report}");
//! report.assert();
//! assert!(report.rows().len() > 1);
//! # });
//! ```
//!
//! [`tests!`] makes a `#[test]` of each case instead. For `dev-dependencies`: the feature brings tokio's test clock.

mod backend;
mod bench;
mod cases;
mod report;
mod suite;
mod table;
mod tools;
mod used;

pub use self::backend::{Backend, Clock, Size};
pub use self::report::{Outcome, Report, Row};
pub use self::suite::Suite;
#[doc(inline)]
pub use crate::__conformance_tests as tests;

/// Runs all cases, as [`Suite::new`] says.
///
/// # Cancel safety
///
/// As [`Suite::run`].
pub async fn run(backend: impl Backend) -> Report {
    Suite::new(backend).run().await
}

/// `conformance::tests!(Mine)`: a `#[test]` for each case, named after it, so that they are run and filtered by name.
///
/// Belongs into a module of its own; the expression is evaluated for each test. A case that does not apply passes and
/// prints the capability that is lacking.
///
/// ```
/// # use abe_events::broker::{Answer, Broker, memory::MemoryBroker};
/// # struct Mine;
/// # impl abe_events::conformance::Backend for Mine {
/// #     fn name(&self) -> &str { "mine" }
/// #     fn open<'a>(&'a self, _storage: &'a str) -> Answer<'a, Result<std::sync::Arc<dyn Broker>, abe_events::BoxError>> {
/// #         Answer::ready(Ok(std::sync::Arc::new(MemoryBroker::new())))
/// #     }
/// # }
/// # fn main() {}
/// mod mine {
///     abe_events::conformance::tests!(super::Mine);
/// }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_tests {
    ($backend:expr) => {
        $crate::__conformance_cases!([$crate::__conformance_test][$backend]);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    ([$backend:expr] $($id:literal $name:ident in $module:ident, $gate:ident;)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::__hold($backend, $id);
            }
        )*
    };
}

/// One case as a test.
///
/// # Panics
///
/// If it fails.
#[doc(hidden)]
#[track_caller]
pub fn __hold(backend: impl Backend, id: &str) {
    use std::io::Write;

    let report = Suite::new(backend).only(id).run_while(|| true);
    report.assert();
    for row in report.rows().iter().filter(|row| row.outcome != Outcome::Pass) {
        // Past the test harness, which would keep it to itself.
        let _ = writeln!(std::io::stdout(), "conformance {} {}: {}", row.id, row.name, row.outcome);
    }
}
