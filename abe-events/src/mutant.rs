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
