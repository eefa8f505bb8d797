//! abe-events, nothing tuned: a fsync for every commit, and the record of every delivery.

use abe_events::config::Config;
use abe_events::{Batch, Runtime, event, handlers, subscribe};

use crate::Result;
use crate::contest::Queue;
use crate::order::{OrderCreated, arrived, groups};

#[subscribe]
async fn handle(order: &OrderCreated) {
    arrived(order);
}

/// The same for what comes together: as many as the peers fetch at once.
#[subscribe(batch = 500, max_wait = "5ms")]
async fn handle_together(orders: Batch<OrderCreated>) {
    orders.iter().for_each(|order| arrived(order));
}

/// Nobody publishes it: a runtime that only publishes has a handler too.
#[event(topic = "bench.never")]
struct Never {}

#[subscribe]
async fn never(_: &Never) {}

/// A publisher of its own process's, and a runtime with the handler.
pub struct Ours {
    url: String,
    together: bool,
    publisher: Runtime,
}

impl Ours {
    pub async fn new(url: String, together: bool) -> Result<Self> {
        let publisher = Runtime::builder().config(Config::default()).url(url.clone()).handlers(handlers![never]).start().await?;
        Ok(Self { url, together, publisher })
    }
}

impl Queue for Ours {
    type Worker = Runtime;

    async fn publish(&mut self, messages: u64) -> Result {
        for group in groups(messages) {
            self.publisher.publish_all(group).await?;
        }
        Ok(())
    }

    async fn work(&mut self) -> Result<Runtime> {
        let builder = Runtime::builder().config(Config::default()).url(self.url.clone());
        let builder = if self.together { builder.handlers(handlers![handle_together]) } else { builder.handlers(handlers![handle]) };
        Ok(builder.start().await?)
    }

    async fn rest(&mut self, worker: Runtime) -> Result {
        worker.stop().await;
        Ok(())
    }
}
