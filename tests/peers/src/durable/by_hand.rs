//! What one would write without any of them: a table, a claim that skips what is locked, a token, a delete. It has no retries,
//! no order, no dead letters and one subscription, and it shows what a row for each delivery can reach on the machine at hand.

use std::time::Duration;

use sqlx::{PgPool, Row};
use tokio::task::JoinHandle;

use crate::Result;
use crate::contest::Queue;
use crate::order::{OrderCreated, arrived, groups};

const JOBS: &str = "CREATE TABLE job (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL,
    until timestamptz NOT NULL DEFAULT '-infinity', token bigint, attempts integer NOT NULL DEFAULT 0)";
const INSERT: &str = "INSERT INTO job (payload) SELECT * FROM unnest($1::bytea[])";
const CLAIM: &str = "WITH free AS MATERIALIZED (
        SELECT seq FROM job WHERE until <= clock_timestamp() ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED)
    UPDATE job SET until = clock_timestamp() + interval '30 seconds', token = $2, attempts = attempts + 1
    FROM free WHERE job.seq = free.seq RETURNING job.seq, payload";
const DELETE: &str = "DELETE FROM job USING unnest($1::bigint[]) AS u (seq) WHERE job.seq = u.seq AND job.token = $2 RETURNING job.seq";

/// How many are claimed at once.
const BATCH: i64 = 500;

pub struct ByHand(PgPool);

impl ByHand {
    pub async fn new(pool: PgPool) -> Result<Self> {
        sqlx::query(JOBS).execute(&pool).await?;
        Ok(Self(pool))
    }
}

async fn work(pool: PgPool) -> Result {
    for token in 0_i64.. {
        let claimed = sqlx::query(CLAIM).bind(BATCH).bind(token).fetch_all(&pool).await?;
        if claimed.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let mut places = Vec::with_capacity(claimed.len());
        for row in &claimed {
            let order: OrderCreated = serde_json::from_slice(row.try_get(1)?)?;
            arrived(&order);
            places.push(row.try_get::<i64, _>(0)?);
        }
        if sqlx::query(DELETE).bind(&places).bind(token).fetch_all(&pool).await?.len() != places.len() {
            return Err("a lease was lost".into());
        }
    }
    Ok(())
}

impl Queue for ByHand {
    type Worker = JoinHandle<()>;

    async fn publish(&mut self, messages: u64) -> Result {
        for group in groups(messages) {
            let payloads = group.iter().map(serde_json::to_vec).collect::<std::result::Result<Vec<_>, _>>()?;
            sqlx::query(INSERT).bind(payloads).execute(&self.0).await?;
        }
        Ok(())
    }

    async fn work(&mut self) -> Result<Self::Worker> {
        let pool = self.0.clone();
        Ok(tokio::spawn(async move {
            if let Err(error) = work(pool).await {
                panic!("{error}");
            }
        }))
    }

    async fn rest(&mut self, worker: Self::Worker) -> Result {
        // What it may have claimed meanwhile is nothing: all has been handled.
        worker.abort();
        Ok(())
    }
}
