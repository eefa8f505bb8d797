//! Protections that can be switched off, one at a time, to see a test go red.
//!
//! Only a build with `ABE_EVENTS_MUTANTS=1` in the environment has the switches (`build.rs`); there the environment of the
//! process names the one that is off. In any other build every switch is a constant `false`, and costs nothing.

/// Whether this protection is switched off.
#[cfg(abe_mutants)]
pub(crate) fn is(name: &str) -> bool {
    use std::sync::OnceLock;
    static OFF: OnceLock<Option<String>> = OnceLock::new();
    OFF.get_or_init(|| std::env::var("ABE_EVENTS_MUTANT").ok()).as_deref() == Some(name)
}

/// Whether this protection is switched off: never, in this build.
#[cfg(not(abe_mutants))]
#[inline(always)]
pub(crate) const fn is(_name: &str) -> bool {
    false
}

/// A step that a test may let the process die at: `ABE_EVENTS_DIE_AT=step`, or `step:3` for the third time.
///
/// The process ends as by a kill: nothing is dropped, flushed or told.
#[cfg(all(abe_mutants, any(feature = "sqlite", feature = "postgres")))]
pub(crate) fn pass(step: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static STEP: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = STEP.get_or_init(|| {
        let wanted = std::env::var("ABE_EVENTS_DIE_AT").ok()?;
        let (step, time) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((step.to_owned(), time.parse().ok()?))
    });
    if let Some((wanted, time)) = wanted
        && wanted == step
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *time
    {
        std::process::abort();
    }
}

/// A step that a test may let the process die at: not in this build.
#[cfg(all(not(abe_mutants), any(feature = "sqlite", feature = "postgres")))]
#[inline(always)]
pub(crate) const fn pass(_step: &str) {}
