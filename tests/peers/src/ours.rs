//! abe-events, memory broker, nothing tuned.

use abe_events::config::Config;
use abe_events::{Event, Message, Payload, Result, Runtime, Topic, handlers, subscribe};

use crate::event::OrderCreated;
use crate::harness::Reading;
use crate::work::{arrived, measured, order};

#[subscribe]
async fn handle(order: &OrderCreated) -> Result<()> {
    arrived(0, order);
    Ok(())
}

async fn start() -> Runtime {
    let started = Runtime::builder().config(Config::default()).handlers(handlers![handle]).start().await;
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// Typed events, handed over as they are.
pub async fn typed(messages: u64) -> Reading {
    let runtime = start().await;
    let reading = measured(1, messages, |messages| {
        let runtime = runtime.clone();
        async move {
            for number in 0..messages {
                if let Err(error) = runtime.publish(order(number)).await {
                    panic!("{error}");
                }
            }
        }
    })
    .await;
    runtime.stop().await;
    reading
}

/// Encoded by the publisher and decoded for the handler, as if a wire lay between.
pub async fn json_both_ways(messages: u64) -> Reading {
    let runtime = start().await;
    let reading = measured(1, messages, |messages| {
        let runtime = runtime.clone();
        async move {
            for number in 0..messages {
                let Ok(bytes) = serde_json::to_vec(&order(number)) else { return };
                let message = Message::new(Topic::from_static(OrderCreated::DESCRIPTOR.topic), 1, Payload::from_bytes(bytes));
                if let Err(error) = runtime.publish_message(message).await {
                    panic!("{error}");
                }
            }
        }
    })
    .await;
    runtime.stop().await;
    reading
}
