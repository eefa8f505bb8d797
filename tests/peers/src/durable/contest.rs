//! One contestant's turn: events through a worker that runs, then a backlog for a worker that starts.

use std::future::Future;
use std::time::Instant;

use crate::order::{nothing_arrived, until_arrived};
use crate::{Result, WARM_UP};

/// Events per second of a turn.
#[derive(Clone, Copy)]
pub struct Rates {
    /// From the first publish to the last handler's end, with a worker that runs.
    pub through: f64,
    /// Published while nobody works.
    pub published: f64,
    /// By a worker that starts, from its start to the last handler's end.
    pub backlog: f64,
}

/// A queue, seen as all of them are measured.
pub trait Queue: Sized {
    /// What handles events, as long as it is held.
    type Worker;

    /// Events, in groups, each with one call; `Ok` when they are stored.
    fn publish(&mut self, messages: u64) -> impl Future<Output = Result>;

    /// Starts a worker.
    fn work(&mut self) -> impl Future<Output = Result<Self::Worker>>;

    /// Ends it.
    fn rest(&mut self, worker: Self::Worker) -> impl Future<Output = Result>;
}

/// Measures both.
pub async fn turn<Q: Queue>(mut queue: Q, messages: u64) -> Result<Rates> {
    let worker = queue.work().await?;
    nothing_arrived();
    queue.publish(WARM_UP).await?;
    until_arrived(WARM_UP).await;
    let began = Instant::now();
    nothing_arrived();
    queue.publish(messages).await?;
    until_arrived(messages).await;
    let through = messages as f64 / began.elapsed().as_secs_f64();
    queue.rest(worker).await?;

    nothing_arrived();
    let began = Instant::now();
    queue.publish(messages).await?;
    let published = messages as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let worker = queue.work().await?;
    until_arrived(messages).await;
    let backlog = messages as f64 / began.elapsed().as_secs_f64();
    queue.rest(worker).await?;
    Ok(Rates { through, published, backlog })
}
