//! graphile_worker, with its batching on: jobs added in groups, a local queue, completions in batches.

use std::sync::Arc;
use std::time::Duration;

use graphile_worker::{IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, Worker, WorkerContext, WorkerOptions};
use tokio::task::JoinHandle;

use crate::Result;
use crate::contest::Queue;
use crate::order::{OrderCreated, arrived, groups};

/// How many jobs run at once.
const CONCURRENCY: usize = 16;

/// How many jobs its local queue fetches at once.
const LOCAL_QUEUE: usize = 500;

/// How long a completion waits for others.
const COMPLETIONS: Duration = Duration::from_millis(5);

impl TaskHandler for OrderCreated {
    const IDENTIFIER: &'static str = "order_created";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        arrived(&self);
        Ok::<(), String>(())
    }
}

pub struct Graphile {
    url: String,
    adding: Arc<Worker>,
}

impl Graphile {
    pub async fn new(url: String) -> Result<Self> {
        let adding = Arc::new(worker(&url).await?);
        Ok(Self { url, adding })
    }
}

async fn worker(url: &str) -> Result<Worker> {
    let options = WorkerOptions::default().database_url(url).max_pg_conn(20).concurrency(CONCURRENCY).listen_os_shutdown_signals(false);
    let options = options.local_queue(LocalQueueConfig::default().with_size(LOCAL_QUEUE)).complete_job_batch_delay(COMPLETIONS);
    Ok(options.define_job::<OrderCreated>().init().await?)
}

impl Queue for Graphile {
    type Worker = (Arc<Worker>, JoinHandle<()>);

    async fn publish(&mut self, messages: u64) -> Result {
        let spec = JobSpec::default();
        for group in groups(messages) {
            let jobs: Vec<_> = group.into_iter().map(|order| (order, &spec)).collect();
            self.adding.create_utils().add_jobs(&jobs).await?;
        }
        Ok(())
    }

    async fn work(&mut self) -> Result<Self::Worker> {
        let worker = Arc::new(worker(&self.url).await?);
        let running = tokio::spawn({
            let worker = worker.clone();
            async move {
                if let Err(error) = worker.run().await {
                    panic!("{error}");
                }
            }
        });
        Ok((worker, running))
    }

    async fn rest(&mut self, (worker, running): Self::Worker) -> Result {
        worker.request_shutdown();
        Ok(running.await?)
    }
}
