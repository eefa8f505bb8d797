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
    /// Still to come, and kept by whoever gives it, so that nothing is allocated for it.
    Kept(Kept<'a, T>),
}

/// Keeps what it still has to answer, by numbers of its own.
pub trait Keeper<T>: Send + Sync {
    /// Goes on with an answer, as [`Future::poll`]. A number that was answered is void.
    fn poll_kept(&self, number: usize, cx: &mut Context<'_>) -> Poll<T>;

    /// An answer is not wanted any more.
    fn drop_kept(&self, number: usize);
}

/// An answer that its giver keeps.
pub struct Kept<'a, T> {
    keeper: Option<&'a dyn Keeper<T>>,
    number: usize,
}

impl<T> Drop for Kept<'_, T> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.drop_kept(self.number);
        }
    }
}

impl<T> fmt::Debug for Kept<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.number).finish()
    }
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

    /// What is at hand; otherwise the answer itself, to be polled.
    ///
    /// # Errors
    ///
    /// The answer, when it is still to come.
    pub fn at_hand(self) -> Result<T, Self> {
        match self {
            Self::Ready(Some(value)) => Ok(value),
            answer => Err(answer),
        }
    }

    /// An answer still to come that `keeper` keeps under a number.
    pub fn kept(keeper: &'a dyn Keeper<T>, number: usize) -> Self {
        Self::Kept(Kept { keeper: Some(keeper), number })
    }
}

// What is at hand is handed over whole and never pinned; what is kept stands elsewhere.
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
            Self::Kept(kept) => match kept.keeper {
                Some(keeper) => {
                    let answer = keeper.poll_kept(kept.number, cx);
                    if answer.is_ready() {
                        kept.keeper = None;
                    }
                    answer
                }
                None => panic!("an answer was polled after it was given"),
            },
        }
    }
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Answer::Ready(..)",
            Self::Later(_) => "Answer::Later(..)",
            Self::Kept(_) => "Answer::Kept(..)",
        })
    }
}
