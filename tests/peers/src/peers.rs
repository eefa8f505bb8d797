//! The peers, each the way its own documentation and benchmarks use it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::{MemoryStorage, TaskSink, WorkerBuilder, WorkerContext};
use omniqueue::backends::InMemoryBackend;
use ruststream::memory::prelude::*;

use crate::event::OrderCreated;
use crate::harness::{Reading, Stopwatch};
use crate::work::{arrived, measured, order};

#[subscriber("order.created")]
async fn consume(order: &OrderCreated) -> HandlerOutcome {
    arrived(0, order);
    HandlerOutcome::ack()
}

/// RustStream: the discarding broker (its default, keeps no log), one worker (its default), JSON both ways (its memory
/// broker carries bytes), the typed publisher. Its queue has no bound.
pub async fn ruststream(messages: u64) -> Reading {
    let broker = MemoryBroker::new();
    let app = RustStream::new(AppInfo::new("peers", "0.0.0")).with_broker(broker.clone(), |b| {
        b.include(consume);
    });
    let running = app.start().await.unwrap_or_else(|error| panic!("{error}"));
    let publisher = broker.publisher();
    let reading = measured(1, messages, |messages| {
        let publisher = publisher.clone();
        async move {
            for number in 0..messages {
                if let Err(error) = publisher.message(&order(number)).publish().await {
                    panic!("{error}");
                }
            }
        }
    })
    .await;
    drop(running);
    reading
}

/// omniqueue: its memory backend (an unbounded mpsc of bytes), JSON both ways, received one by one and acked.
pub async fn omniqueue(messages: u64) -> Reading {
    let pair = InMemoryBackend::builder().build_pair().await;
    let (producer, mut consumer) = pair.unwrap_or_else(|error| panic!("{error}"));
    let producer = Arc::new(producer);
    let consuming = tokio::spawn(async move {
        while let Ok(delivery) = consumer.receive().await {
            if let Ok(Some(order)) = delivery.payload_serde_json::<OrderCreated>() {
                arrived(0, &order);
            }
            if delivery.ack().await.is_err() {
                return;
            }
        }
    });
    let reading = measured(1, messages, |messages| {
        let producer = producer.clone();
        async move {
            for number in 0..messages {
                if let Err(error) = producer.send_serde_json(&order(number)).await {
                    panic!("{error}");
                }
            }
        }
    })
    .await;
    consuming.abort();
    reading
}

/// How many tasks the running worker is still to see before it stops itself.
static LEFT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

async fn work(order: OrderCreated, worker: WorkerContext) -> Result<(), Infallible> {
    std::hint::black_box(order.amount);
    if LEFT.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
        let _ = worker.stop();
    }
    Ok(())
}

/// apalis: typed tasks pushed into its memory storage, then a worker that runs them, as its README shows it. Both on one
/// task, its best case: nothing is contended. Its queue has no bound.
pub async fn apalis(messages: u64) -> Reading {
    apalis_pass(1_024, false).await;
    apalis_pass(messages, false).await
}

/// The same with the layers that our defaults correspond to, without retries.
pub async fn apalis_guarded(messages: u64) -> Reading {
    apalis_pass(1_024, true).await;
    apalis_pass(messages, true).await
}

async fn apalis_pass(messages: u64, guarded: bool) -> Reading {
    let mut storage = MemoryStorage::new();
    LEFT.store(messages, std::sync::atomic::Ordering::Relaxed);
    let watch = Stopwatch::start();
    for number in 0..messages {
        if let Err(error) = storage.push(order(number)).await {
            panic!("{error}");
        }
    }
    let worker = WorkerBuilder::new("peers").backend(storage);
    let ended = if guarded {
        worker.catch_panic().timeout(Duration::from_secs(30)).build(work).run().await
    } else {
        worker.build(work).run().await
    };
    if let Err(error) = ended {
        panic!("{error}");
    }
    watch.stop(messages)
}
