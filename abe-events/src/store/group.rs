//! Group commit: whoever comes while a transaction is under way shares the next one.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::error::{Error, ErrorKind, Result};

/// An error that several are told.
type Told = (ErrorKind, String);

/// Items, and who is to be told what came of them.
type Waiting<T> = (Vec<T>, oneshot::Sender<Result<(), Told>>);

/// Items on their way to a database, and who waits for them.
#[derive(Debug)]
pub(crate) struct Group<T> {
    waiting: Mutex<Vec<Waiting<T>>>,
    /// Held by whoever writes.
    turn: tokio::sync::Mutex<()>,
}

impl<T> Group<T> {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), turn: tokio::sync::Mutex::new(()) }
    }

    /// Has items written, together with those of others.
    ///
    /// # Cancel safety
    ///
    /// Dropped, they may or may not be written; so may those of others, who are told that it is unknown.
    pub(super) async fn add<F: Future<Output = Result<()>>>(&self, items: Vec<T>, write: impl FnOnce(Vec<T>) -> F) -> Result<()> {
        let (reply, mut answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((items, reply));
        let turn = self.turn.lock().await;
        match answer.try_recv() {
            Ok(told) => return told.map_err(|(kind, text)| Error::new(kind, text)),
            // Whoever wrote them was given up half-way.
            Err(TryRecvError::Closed) => {
                return Err(Error::new(ErrorKind::Unknown, "whoever wrote it together with others was given up"));
            }
            Err(TryRecvError::Empty) => {}
        }
        // Nobody has written them, so they are still there, with those of all who came meanwhile.
        let all = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let (items, replies): (Vec<Vec<T>>, Vec<_>) = all.into_iter().unzip();
        let written = write(items.into_iter().flatten().collect()).await;
        drop(turn);
        for reply in replies {
            // Who has gone needs no answer.
            let _ = reply.send(written.as_ref().copied().map_err(|error| (error.kind(), error.to_string())));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_meanwhile_shares_the_next_turn_and_its_error() {
        let (group, turns) = (Arc::new(Group::new()), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let (group, turns) = (group.clone(), turns.clone());
                tokio::spawn(async move {
                    let write = |items: Vec<usize>| async move {
                        turns.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        if items.contains(&7) { Err(Error::new(ErrorKind::NotStored, "told")) } else { Ok(()) }
                    };
                    group.add(vec![number], write).await
                })
            })
            .collect();
        let mut failed = 0;
        for task in tasks {
            if let Err(error) = task.await.unwrap() {
                assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotStored, "told"));
                failed += 1;
            }
        }
        assert_eq!(turns.load(Ordering::Relaxed), 2, "the first goes alone, all others together");
        assert_eq!(failed, 99);
    }

    #[tokio::test(start_paused = true)]
    async fn who_shares_a_turn_that_is_given_up_is_told_that_nobody_knows() {
        let group = Arc::new(Group::new());
        let first = group.clone();
        let first = tokio::spawn(async move { first.add(vec![1], |_| std::future::pending()).await });
        tokio::task::yield_now().await;
        let leader = group.clone();
        let leader = tokio::spawn(async move { leader.add(vec![2], |_| std::future::pending()).await });
        let follower = group.clone();
        let follower = tokio::spawn(async move { follower.add(vec![3], |_| async { Ok(()) }).await });
        tokio::task::yield_now().await;
        // The second takes the turn with what the third has brought, and is given up with it.
        first.abort();
        tokio::time::sleep(Duration::from_millis(1)).await;
        leader.abort();
        assert_eq!(follower.await.unwrap().unwrap_err().kind(), ErrorKind::Unknown);
    }
}
