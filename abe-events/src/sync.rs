//! Locks and atomics of the concurrent kernels: std's, or loom's while loom runs through their interleavings.

#[cfg(not(abe_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, fence},
};

#[cfg(abe_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, fence},
};

/// Locks, also after a panic elsewhere: what our locks guard is never left half-way, as no user code runs under them.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
