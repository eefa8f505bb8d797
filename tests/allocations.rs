//! The allocation gate: publishing, handling and settling a message allocates nothing of ours (I50, budget P2).
//!
//! Everything runs on one thread, whose allocations are counted. What is done once cancels out between a run and one
//! twice as long; what is left is per message.
#![expect(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abe_events::config::Config;
use abe_events::handler::HandlerDescriptor;
use abe_events::{Result, Runtime, event, handlers, subscribe};

/// Fewer than one allocation in a hundred messages.
const NEARLY_NONE: f64 = 0.01;

const MESSAGES: u64 = 10_000;

#[event(topic = "measured.happened")]
struct Measured {
    number: u64,
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

#[subscribe]
async fn plain(event: &Measured) -> Result<()> {
    HANDLED.fetch_add(u64::from(event.number == 7), Ordering::Relaxed);
    Ok(())
}

#[subscribe(concurrency = 4)]
async fn concurrent(event: &Measured) -> Result<()> {
    HANDLED.fetch_add(u64::from(event.number == 7), Ordering::Relaxed);
    Ok(())
}

#[subscribe(filter = |event| event.number == 7)]
async fn filtered(event: Arc<Measured>) -> Result<()> {
    HANDLED.fetch_add(u64::from(event.number == 7), Ordering::Relaxed);
    Ok(())
}

/// Allocations per delivery of a runtime with these handlers, each of which is to see every message.
fn per_delivery<F: Future<Output = ()>>(
    handlers: &[&'static HandlerDescriptor],
    bound: u32,
    publish: impl Fn(Runtime, Arc<Measured>, u64) -> F,
) -> f64 {
    let run = |messages: u64| {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let builder = Runtime::builder().config(Config::default()).output_buffer(bound).handlers(handlers);
            let runtime = builder.start().await.unwrap();
            let target = HANDLED.load(Ordering::Relaxed) + messages * handlers.len() as u64;
            publish(runtime.clone(), Arc::new(Measured { number: 7 }), messages).await;
            while HANDLED.load(Ordering::Relaxed) < target {
                tokio::task::yield_now().await;
            }
            runtime.stop().await;
        });
    };
    let count = |messages| allocation_counter::measure(|| run(messages)).count_total as f64;
    // Lazily built statics of everybody.
    run(MESSAGES);
    (count(2 * MESSAGES) - count(MESSAGES)) / (MESSAGES * handlers.len() as u64) as f64
}

async fn one_by_one(runtime: Runtime, event: Arc<Measured>, messages: u64) {
    for number in 0..messages {
        runtime.publish(event.clone()).await.unwrap();
        // The handlers keep up, so that publishing never waits for room, and seldom run dry.
        if number % 500 == 499 {
            tokio::task::yield_now().await;
        }
    }
}

async fn into_a_sleeping_lane(runtime: Runtime, event: Arc<Measured>, messages: u64) {
    for _ in 0..messages {
        runtime.publish(event.clone()).await.unwrap();
        // Twice: the lane gives way once before it sleeps.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
}

async fn without_pause(runtime: Runtime, event: Arc<Measured>, messages: u64) {
    for _ in 0..messages {
        runtime.publish(event.clone()).await.unwrap();
    }
}

async fn in_batches(runtime: Runtime, event: Arc<Measured>, messages: u64) {
    for _ in 0..messages / 50 {
        runtime.publish_all((0..50).map(|_| event.clone())).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// One test, because the count of a thread is the count of whatever runs on it, and the handlers share a counter.
#[test]
fn a_message_costs_no_allocation_of_ours() {
    let mut found = Vec::new();
    let mut check = |what: &str, allocations: f64, at_most: f64| {
        if allocations > at_most {
            found.push(format!("{what}: {allocations:.4} allocations per delivery, at most {at_most}"));
        }
    };
    let plain = handlers![plain];
    check("publish, handle, ack", per_delivery(plain, 1024, one_by_one), NEARLY_NONE);
    check("three handlers of one event", per_delivery(handlers![plain, concurrent, filtered], 1024, one_by_one), NEARLY_NONE);
    check("concurrency 4", per_delivery(handlers![concurrent], 1024, one_by_one), NEARLY_NONE);
    check("a filter and an Arc", per_delivery(handlers![filtered], 1024, one_by_one), NEARLY_NONE);
    // Whoever waits owns what it waits with. A lane that runs dry: one boxed future. Under load that is seldom, at most
    // every 128 messages, when a publisher gives way.
    check("every message wakes a lane", per_delivery(plain, 64, into_a_sleeping_lane), 1.0 + NEARLY_NONE);
    // A publisher at a full queue: a boxed future, a list of queues, and what is still to be stored; once in a queue's length.
    check("a publisher that waits for room, bound 1024", per_delivery(plain, 1024, without_pause), NEARLY_NONE);
    check("a publisher that waits for room, bound 64", per_delivery(plain, 64, without_pause), 5.0 / 64.0 + NEARLY_NONE);
    // A batch has its lists: of messages, of topics, of runs of one topic.
    check("batches of 50", per_delivery(plain, 64, in_batches), 8.0 / 50.0 + NEARLY_NONE);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
