//! The payload, and the handler's own work, the same for every contestant.

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::event::{Item, OrderCreated};
use crate::harness::{Reading, Stopwatch};

/// How many handlers the widest row has.
pub(crate) const SINKS: usize = 100;

/// How many messages go before the measured ones; always as many, so that they cancel out where two runs are compared.
const WARM_UP: u64 = 1_024;

/// A count on cache lines of its own.
#[repr(align(128))]
struct Count(AtomicU64);

static COUNTS: [Count; SINKS] = [const { Count(AtomicU64::new(0)) }; SINKS];
static TARGET: AtomicU64 = AtomicU64::new(0);
static OPEN: AtomicU64 = AtomicU64::new(0);
static DONE: Notify = Notify::const_new();

/// What every handler does with an order.
#[inline]
pub(crate) fn arrived(sink: usize, order: &OrderCreated) {
    black_box(order.amount);
    if COUNTS[sink].0.fetch_add(1, Ordering::Relaxed) + 1 == TARGET.load(Ordering::Relaxed) && OPEN.fetch_sub(1, Ordering::AcqRel) == 1 {
        DONE.notify_one();
    }
}

/// Waits until each of so many sinks saw `messages`, while `produce` makes them.
async fn until_arrived(sinks: usize, messages: u64, produce: impl Future<Output = ()> + Send + 'static) {
    for count in &COUNTS {
        count.0.store(0, Ordering::Relaxed);
    }
    TARGET.store(messages, Ordering::Relaxed);
    OPEN.store(sinks as u64, Ordering::Release);
    let producer = tokio::spawn(produce);
    DONE.notified().await;
    if let Err(error) = producer.await {
        panic!("the producer failed: {error}");
    }
}

/// Warms up, then measures the time from the first publish until every sink saw every message.
pub(crate) async fn measured<F: Future<Output = ()> + Send + 'static>(sinks: usize, messages: u64, produce: impl Fn(u64) -> F) -> Reading {
    until_arrived(sinks, WARM_UP, produce(WARM_UP)).await;
    let watch = Stopwatch::start();
    until_arrived(sinks, messages, produce(messages)).await;
    watch.stop(messages * sinks as u64)
}

/// Where events come from.
#[derive(Clone)]
pub(crate) enum Source {
    /// Each is built when it is published: seven allocations, as a service does it.
    Fresh,
    /// One, built before: the strictest comparison, for nothing but the hand-off is left.
    Shared(Arc<OrderCreated>),
}

impl Source {
    pub(crate) fn shared() -> Self {
        Self::Shared(Arc::new(order(7)))
    }

    #[inline]
    pub(crate) fn next(&self, number: u64) -> Arc<OrderCreated> {
        match self {
            Self::Fresh => Arc::new(order(number)),
            Self::Shared(order) => order.clone(),
        }
    }
}

/// An order: 247 bytes of JSON or nearly so.
pub(crate) fn order(number: u64) -> OrderCreated {
    let item = |sku: &str, price| Item { sku: sku.to_owned(), quantity: 2, price };
    OrderCreated {
        id: "ord_01JD9Z6X8Q4T".to_owned(),
        user_id: number,
        amount: 149.97,
        items: vec![item("SKU-4711-BLACK", 49.99), item("SKU-0815-WHITE", 29.99), item("SKU-1234-GREEN", 9.99)],
        timestamp: "2026-11-22T10:20:30.123Z".to_owned(),
    }
}

/// About five microseconds of arithmetic.
#[inline(never)]
pub(crate) fn spin(seed: u64) -> u64 {
    (0..4_000).fold(seed, |state, step| black_box(state.rotate_left(5) ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
static SENT: AtomicU64 = AtomicU64::new(0);
static LATENCY: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A publish begins now.
pub(crate) fn sent() {
    SENT.store(now(), Ordering::Release);
}

/// A handler begins now: how long after the publish began.
pub(crate) fn stamped(order: &OrderCreated) {
    LATENCY.store(now() - SENT.load(Ordering::Acquire), Ordering::Release);
    arrived(0, order);
}

/// The median time from publish to handler when everything was idle before each message.
pub(crate) async fn woken<F: Future<Output = ()> + Send + 'static>(messages: u64, publish_one: impl Fn() -> F) -> Reading {
    let mut latencies = Vec::new();
    let watch = Stopwatch::start();
    for _ in 0..messages {
        // Long enough for every worker to park.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        until_arrived(1, 1, publish_one()).await;
        latencies.push(LATENCY.load(Ordering::Acquire) as f64);
    }
    Reading { wall_ns: crate::harness::median(latencies), ..watch.stop(messages) }
}
