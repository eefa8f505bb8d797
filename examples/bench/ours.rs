//! The same work with abe-events: every default protection on, nothing tuned but the bound of the queue.

use abe_events::config::Config;
use abe_events::handler::HandlerDescriptor;
use abe_events::{Event, Message, Payload, Result, Runtime, Topic, handlers, subscribe};

use crate::event::OrderCreated;
use crate::harness::Reading;
use crate::twins::{encoded, share};
use crate::work::{self, SINKS, Source, arrived, measured};

pub(crate) type Descriptors = &'static [&'static HandlerDescriptor];

/// The bound of the hand-written queues, so that the same is compared.
pub(crate) const SAME_BOUND: u32 = 1024;

/// What a user gets who configures nothing.
pub(crate) const DEFAULT_BOUND: u32 = 64;

/// How many events a batch publish takes at once.
const BATCH: u64 = 64;

#[subscribe]
async fn plain(order: &OrderCreated) -> Result<()> {
    arrived(0, order);
    Ok(())
}

#[subscribe(idempotent)]
async fn once(order: &OrderCreated) -> Result<()> {
    arrived(0, order);
    Ok(())
}

#[subscribe(concurrency = 8)]
async fn eight(order: &OrderCreated) -> Result<()> {
    arrived(0, order);
    Ok(())
}

#[subscribe]
async fn busy(order: &OrderCreated) -> Result<()> {
    work::spin(order.user_id);
    arrived(0, order);
    Ok(())
}

#[subscribe]
async fn sleepy(order: &OrderCreated) -> Result<()> {
    work::stamped(order);
    Ok(())
}

/// Which handler a row is about.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Plain,
    Idempotent,
    Concurrent,
}

impl Handler {
    fn descriptors(self) -> Descriptors {
        match self {
            Self::Plain => handlers![plain],
            Self::Idempotent => handlers![once],
            Self::Concurrent => handlers![eight],
        }
    }
}

async fn start(handlers: Descriptors, bound: u32) -> Runtime {
    let started = Runtime::builder().config(Config::default()).output_buffer(bound).handlers(handlers).start().await;
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// Publishes one by one.
pub(crate) async fn one_by_one(handler: Handler, bound: u32, source: Source, producers: u64, messages: u64) -> Reading {
    let runtime = start(handler.descriptors(), bound).await;
    let reading = measured(1, messages, |messages| {
        let (runtime, source) = (runtime.clone(), source.clone());
        async move {
            let mut tasks = tokio::task::JoinSet::new();
            for producer in 1..producers {
                let (runtime, source) = (runtime.clone(), source.clone());
                tasks.spawn(async move { publish(&runtime, &source, share(producer, producers, messages)).await });
            }
            publish(&runtime, &source, share(0, producers, messages)).await;
            tasks.join_all().await;
        }
    })
    .await;
    runtime.stop().await;
    reading
}

async fn publish(runtime: &Runtime, source: &Source, messages: u64) {
    for number in 0..messages {
        let published = match source {
            Source::Fresh => runtime.publish(work::order(number)).await,
            Source::Shared(order) => runtime.publish(order.clone()).await,
        };
        if let Err(error) = published {
            panic!("{error}");
        }
    }
}

async fn publish_in_batches(runtime: &Runtime, source: &Source, messages: u64) {
    let mut number = 0;
    while number < messages {
        let end = messages.min(number + BATCH);
        if let Err(error) = runtime.publish_all((number..end).map(|number| source.next(number))).await {
            panic!("{error}");
        }
        number = end;
    }
}

/// Publishes 64 at a time.
pub(crate) async fn batched(bound: u32, source: Source, messages: u64) -> Reading {
    let runtime = start(handlers![plain], bound).await;
    let reading = measured(1, messages, |messages| {
        let (runtime, source) = (runtime.clone(), source.clone());
        async move { publish_in_batches(&runtime, &source, messages).await }
    })
    .await;
    runtime.stop().await;
    reading
}

/// Publishes JSON bytes, as a relay does.
pub(crate) async fn from_bytes(messages: u64) -> Reading {
    let runtime = start(handlers![plain], SAME_BOUND).await;
    let bytes = encoded();
    let reading = measured(1, messages, |messages| {
        let (runtime, bytes) = (runtime.clone(), bytes.clone());
        async move {
            for _ in 0..messages {
                let topic = Topic::from_static(OrderCreated::DESCRIPTOR.topic);
                if let Err(error) = runtime.publish_message(Message::new(topic, 1, Payload::from_bytes(bytes.clone()))).await {
                    panic!("{error}");
                }
            }
        }
    })
    .await;
    runtime.stop().await;
    reading
}

/// A hundred subscriptions, published to 64 at a time.
pub(crate) async fn fan_out(messages: u64) -> Reading {
    let runtime = start(crate::wide::descriptors(), SAME_BOUND).await;
    let reading = measured(SINKS, messages, |messages| {
        let runtime = runtime.clone();
        async move { publish_in_batches(&runtime, &Source::Fresh, messages).await }
    })
    .await;
    runtime.stop().await;
    reading
}

/// Producer and handler each compute for about five microseconds per message.
pub(crate) async fn heavy(messages: u64) -> Reading {
    let runtime = start(handlers![busy], SAME_BOUND).await;
    let source = Source::shared();
    let reading = measured(1, messages, |messages| {
        let (runtime, order) = (runtime.clone(), source.next(0));
        async move {
            for number in 0..messages {
                work::spin(number);
                if let Err(error) = runtime.publish(order.clone()).await {
                    panic!("{error}");
                }
            }
        }
    })
    .await;
    runtime.stop().await;
    reading
}

/// One message at a time into a sleeping handler.
pub(crate) async fn woken(messages: u64) -> Reading {
    let runtime = start(handlers![sleepy], SAME_BOUND).await;
    let source = Source::shared();
    let reading = work::woken(messages, || {
        let (runtime, order) = (runtime.clone(), source.next(0));
        async move {
            work::sent();
            if let Err(error) = runtime.publish(order).await {
                panic!("{error}");
            }
        }
    })
    .await;
    runtime.stop().await;
    reading
}
