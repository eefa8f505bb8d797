//! A reply of a broker: at hand, or a boxed future. What is at hand costs no allocation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a broker's method returns; a future that is often ready at once.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use abe_events::broker::Answer;
///
/// assert_eq!(Answer::ready(1).await, 1);
/// assert_eq!(Answer::later(async { 2 }).await, 2);
/// # });
/// ```
pub enum Answer<'a, T> {
    /// At hand.
    Ready(Option<T>),
    /// Still to come.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Answer<'a, T> {
    /// An answer that is at hand.
    pub fn ready(value: T) -> Self {
        Self::Ready(Some(value))
    }

    /// An answer still to come.
    pub fn later(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }
}

// What is at hand is handed over whole and never pinned.
impl<T> Unpin for Answer<'_, T> {}

impl<T> Future for Answer<'_, T> {
    type Output = T;

    /// # Panics
    ///
    /// When polled again after it was ready, as futures may.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut *self {
            Self::Ready(value) => match value.take() {
                Some(value) => Poll::Ready(value),
                None => panic!("an answer was polled after it was given"),
            },
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Answer::Ready(..)",
            Self::Later(_) => "Answer::Later(..)",
        })
    }
}
