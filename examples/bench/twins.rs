//! The loops people write by hand: what abe-events is measured against.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc;

use crate::event::OrderCreated;
use crate::harness::Reading;
use crate::work::{self, SINKS, Source, arrived, measured};

/// The bound of every hand-written queue.
const BOUND: usize = 1024;

async fn handle(order: &OrderCreated) -> Result<(), String> {
    arrived(0, order);
    Ok(())
}

/// tokio mpsc(1024), `recv`, an `async fn`: no protection at all.
pub(crate) async fn bare(source: Source, producers: u64, messages: u64) -> Reading {
    let (sender, mut orders) = mpsc::channel::<Arc<OrderCreated>>(BOUND);
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            let _ = handle(&order).await;
        }
    });
    measured(1, messages, |messages| produce(sender.clone(), source.clone(), producers, messages)).await
}

/// The same without an `Arc`: the event itself goes through the channel, which only one subscriber allows.
pub(crate) async fn bare_owned(messages: u64) -> Reading {
    let (sender, mut orders) = mpsc::channel::<OrderCreated>(BOUND);
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            let _ = handle(&order).await;
        }
    });
    measured(1, messages, |messages| {
        let sender = sender.clone();
        async move {
            for number in 0..messages {
                let _ = sender.send(work::order(number)).await;
            }
        }
    })
    .await
}

/// The same as [`bare`], handed over in batches of 64 both ways.
pub(crate) async fn bare_batched(source: Source, messages: u64) -> Reading {
    let (sender, mut orders) = mpsc::channel::<Arc<OrderCreated>>(BOUND);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(64);
        while orders.recv_many(&mut batch, 64).await > 0 {
            for order in batch.drain(..) {
                let _ = handle(&order).await;
            }
        }
    });
    measured(1, messages, |messages| {
        let (sender, source) = (sender.clone(), source.clone());
        async move {
            let mut number = 0;
            while number < messages {
                let count = 64.min(messages - number);
                let Ok(permits) = sender.reserve_many(count as usize).await else { return };
                for permit in permits {
                    permit.send(source.next(number));
                    number += 1;
                }
            }
        }
    })
    .await
}

/// The loop with the protections that every abe-events handler has: panic guard, timeout, five attempts, a counter and a
/// latency histogram.
pub(crate) async fn protected(source: Source, messages: u64) -> Reading {
    let (sender, mut orders) = mpsc::channel::<Arc<OrderCreated>>(BOUND);
    let metrics = Arc::new(Metrics::default());
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            let mut handled = false;
            for attempt in 0..5_u32 {
                let began = Instant::now();
                let guarded = AssertUnwindSafe(handle(&order)).catch_unwind();
                let ended = tokio::time::timeout(Duration::from_secs(30), guarded).await;
                metrics.took(began.elapsed());
                if let Ok(Ok(Ok(()))) = ended {
                    handled = true;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            }
            let count = if handled { &metrics.succeeded } else { &metrics.dead };
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    measured(1, messages, |messages| produce(sender.clone(), source.clone(), 1, messages)).await
}

#[derive(Default)]
struct Metrics {
    succeeded: AtomicU64,
    dead: AtomicU64,
    latency: [AtomicU64; 32],
}

impl Metrics {
    fn took(&self, time: Duration) {
        let bucket = (u64::BITS - u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).leading_zeros()).min(31);
        self.latency[bucket as usize].fetch_add(1, Ordering::Relaxed);
    }
}

async fn produce(sender: mpsc::Sender<Arc<OrderCreated>>, source: Source, producers: u64, messages: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 1..producers {
        let (sender, source) = (sender.clone(), source.clone());
        tasks.spawn(async move { send(&sender, &source, share(producer, producers, messages)).await });
    }
    send(&sender, &source, share(0, producers, messages)).await;
    tasks.join_all().await;
}

async fn send(sender: &mpsc::Sender<Arc<OrderCreated>>, source: &Source, messages: u64) {
    for number in 0..messages {
        let _ = sender.send(source.next(number)).await;
    }
}

/// How many of the messages one of several producers makes.
pub(crate) fn share(producer: u64, producers: u64, messages: u64) -> u64 {
    messages / producers + u64::from(producer < messages % producers)
}

/// `serde_json::from_slice` and the handler in a plain loop: no queue, no second task, the floor of reading JSON.
pub(crate) async fn decode_inline(messages: u64) -> Reading {
    let bytes = encoded();
    measured(1, messages, |messages| {
        let bytes = bytes.clone();
        async move {
            for _ in 0..messages {
                let Ok(order) = serde_json::from_slice::<OrderCreated>(&bytes) else { return };
                let _ = handle(&order).await;
            }
        }
    })
    .await
}

/// Bytes through mpsc(1024), decoded by the consumer.
pub(crate) async fn decode_behind_channel(messages: u64) -> Reading {
    let (sender, mut bodies) = mpsc::channel::<Bytes>(BOUND);
    tokio::spawn(async move {
        while let Some(bytes) = bodies.recv().await {
            if let Ok(order) = serde_json::from_slice::<OrderCreated>(&bytes) {
                let _ = handle(&order).await;
            }
        }
    });
    let bytes = encoded();
    measured(1, messages, |messages| {
        let (sender, bytes) = (sender.clone(), bytes.clone());
        async move {
            for _ in 0..messages {
                let _ = sender.send(bytes.clone()).await;
            }
        }
    })
    .await
}

/// An order as JSON.
pub(crate) fn encoded() -> Bytes {
    match serde_json::to_vec(&work::order(7)) {
        Ok(bytes) => bytes.into(),
        Err(error) => panic!("an order is JSON: {error}"),
    }
}

/// One mpsc(1024) per subscriber, emptied by `recv_many`.
pub(crate) async fn fan_out(messages: u64) -> Reading {
    let senders: Arc<[mpsc::Sender<Arc<OrderCreated>>]> = (0..SINKS)
        .map(|sink| {
            let (sender, mut orders) = mpsc::channel::<Arc<OrderCreated>>(BOUND);
            tokio::spawn(async move {
                let mut batch = Vec::with_capacity(64);
                while orders.recv_many(&mut batch, 64).await > 0 {
                    for order in batch.drain(..) {
                        arrived(sink, &order);
                    }
                }
            });
            sender
        })
        .collect();
    measured(SINKS, messages, |messages| {
        let senders = senders.clone();
        async move {
            for number in 0..messages {
                let order = Source::Fresh.next(number);
                for sender in &*senders {
                    let _ = sender.send(order.clone()).await;
                }
            }
        }
    })
    .await
}

/// Producer and handler each compute for about five microseconds per message.
pub(crate) async fn heavy(messages: u64) -> Reading {
    let (sender, mut orders) = mpsc::channel::<Arc<OrderCreated>>(BOUND);
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            work::spin(order.user_id);
            let _ = handle(&order).await;
        }
    });
    let Source::Shared(order) = Source::shared() else { return bare(Source::Fresh, 1, messages).await };
    measured(1, messages, |messages| {
        let (sender, order) = (sender.clone(), order.clone());
        async move {
            for number in 0..messages {
                work::spin(number);
                let _ = sender.send(order.clone()).await;
            }
        }
    })
    .await
}

/// One message at a time into a sleeping consumer.
pub(crate) async fn woken(messages: u64) -> Reading {
    let (sender, mut orders) = mpsc::channel::<Arc<OrderCreated>>(BOUND);
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            work::stamped(&order);
        }
    });
    let source = Source::shared();
    work::woken(messages, || {
        let (sender, order) = (sender.clone(), source.next(0));
        async move {
            work::sent();
            let _ = sender.send(order).await;
        }
    })
    .await
}
