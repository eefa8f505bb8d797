//! Runs one test: a Tokio runtime of its own with paused time, and a look for surprises afterwards.

use std::future::Future;
use std::time::Duration;

use super::bus::TestBus;

/// How a test body may end: with nothing, or with a result whose error fails the test.
pub trait Verdict {
    /// Panics with the error, if there is one.
    fn conclude(self, name: &str);
}

impl Verdict for () {
    fn conclude(self, _name: &str) {}
}

impl<E: std::fmt::Debug> Verdict for Result<(), E> {
    /// # Panics
    ///
    /// With the error, which is how a test fails.
    #[track_caller]
    fn conclude(self, name: &str) {
        if let Err(error) = self {
            panic!("test `{name}` failed: {error:?}");
        }
    }
}

/// Runs a test body with a [`TestBus`]; `#[abe_events::test]` calls it.
///
/// # Panics
///
/// When the body panics or fails, or afterwards for a surprise: a dead letter, a panic or an unhandled event that the body
/// did not expect.
pub fn run_test<F, Fut, R>(name: &str, body: F)
where
    F: FnOnce(TestBus) -> Fut,
    Fut: Future<Output = R>,
    R: Verdict,
{
    let tokio = match tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build() {
        Ok(tokio) => tokio,
        Err(error) => panic!("test `{name}`: no Tokio runtime: {error}"),
    };
    tokio.block_on(async {
        let bus = TestBus::new();
        let kit = bus.kit();
        body(bus).await.conclude(name);
        let surprises = kit.surprises().await;
        assert!(surprises.is_empty(), "test `{name}` passed, but:\n  - {}", surprises.join("\n  - "));
    });
    // A handler that keeps its thread must not keep the test.
    tokio.shutdown_timeout(Duration::from_millis(100));
}
