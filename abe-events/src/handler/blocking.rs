//! A handler that blocks: its call runs on the blocking pool.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::lane_scope::Scope;

/// Runs a function on the blocking pool, in the scope of the lane that is being polled.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn blocking<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> Blocking<R> {
    let scope = Scope::here();
    Blocking(spawn_blocking(move || {
        // The thread belongs to the pool: what the scope was must come back, after a panic too.
        struct Restore(Scope);
        impl Drop for Restore {
            fn drop(&mut self) {
                std::mem::take(&mut self.0).enter();
            }
        }
        let _restore = Restore(scope.enter());
        run()
    }))
}

/// A call on the blocking pool.
///
/// Dropped at a timeout it is abandoned: the function runs to its end, and nobody looks at what it returns.
#[derive(Debug)]
pub struct Blocking<R>(JoinHandle<R>);

impl<R> Future for Blocking<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(value) => Poll::Ready(value),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The pool is shutting down, and the function was never started.
                Err(_) => Poll::Pending,
            },
        }
    }
}
