//! apalis: its SQLite and its PostgreSQL storage, with the settings for throughput that its own examples and tests use. Its
//! SQLite storage runs with `synchronous=OFF`, which its `setup` sets: a power failure may lose what was pushed.

use std::time::Duration;

use apalis::prelude::{BackendExt, BoxDynError, Strategy, TaskSink, WorkerBuilder, WorkerContext};
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use sqlx::{PgPool, SqlitePool};
use tokio::task::JoinHandle;

use crate::Result;
use crate::contest::Queue;
use crate::order::{OrderCreated, arrived, groups};

/// How many tasks a worker fetches at once.
const BATCH: usize = 100;

/// How soon a worker that found nothing looks again.
const POLL: Duration = Duration::from_millis(10);

async fn work(order: OrderCreated) -> std::result::Result<(), BoxDynError> {
    arrived(&order);
    Ok(())
}

/// A worker: what tells it to stop, and its task.
pub struct Worker {
    context: WorkerContext,
    running: JoinHandle<()>,
}

/// The same for both storages, whose types have nothing in common that could be named.
macro_rules! queue {
    ($(#[$about:meta])* $name:ident, $storage:ident, $pool:ty, $config:ty) => {
        $(#[$about])*
        pub struct $name {
            pool: $pool,
            storage: $storage<OrderCreated>,
            workers: u32,
        }

        impl $name {
            pub async fn new(pool: $pool) -> Result<Self> {
                $storage::setup(&pool).await?;
                let storage = $storage::new(&pool).with_config(Self::config());
                Ok(Self { pool, storage, workers: 0 })
            }

            fn config() -> $config {
                <$config>::default().queue("orders").batch_size(BATCH).lock_tasks(false)
            }
        }

        impl Queue for $name {
            type Worker = Worker;

            async fn publish(&mut self, messages: u64) -> Result {
                for group in groups(messages) {
                    self.storage.push_bulk(group).await?;
                }
                Ok(())
            }

            async fn work(&mut self) -> Result<Worker> {
                self.workers += 1;
                let context = WorkerContext::new(&format!("worker-{}", self.workers));
                let backend = $storage::new(&self.pool).with_config(Self::config()).poll_with_strategy(Strategy::new().interval(POLL));
                let worker = WorkerBuilder::new(&context).backend(backend).build(work);
                let running = tokio::spawn(async move {
                    if let Err(error) = worker.run().await {
                        panic!("{error}");
                    }
                });
                Ok(Worker { context, running })
            }

            async fn rest(&mut self, worker: Worker) -> Result {
                worker.context.stop()?;
                Ok(worker.running.await?)
            }
        }
    };
}

queue!(
    /// `apalis-sqlite`, to be given a pool of one connection: `synchronous` is a setting of each.
    ApalisSqlite,
    SqliteStorage,
    SqlitePool,
    apalis_sqlite::Config
);
queue!(
    /// `apalis-postgres`.
    ApalisPostgres,
    PostgresStorage,
    PgPool,
    apalis_postgres::Config
);
