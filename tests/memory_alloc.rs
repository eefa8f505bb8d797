//! The memory broker allocates nothing per message once it has run: not to publish, to wait, to receive or to settle.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{Broker, Messages, Outgoing, Settlement, SubscriptionSpec, Verdict};
use abe_events::{Body, Message, Name, Payload, Result, Topic, TopicPattern};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Event;

impl Body for Event {
    fn encode(&self) -> Result<bytes::Bytes> {
        Ok(bytes::Bytes::new())
    }

    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn weight(&self) -> usize {
        64
    }
}

/// A publisher and a lane that wait for each other all the time, since the queue is small.
async fn run(lease: Option<Duration>, messages: u64) -> usize {
    let broker = Arc::new(MemoryBroker::new());
    let topics = vec![TopicPattern::new("t.*").unwrap()];
    let spec = SubscriptionSpec { lease, buffer: 16, ..SubscriptionSpec::new(Name::new("g").unwrap(), Name::new("s").unwrap(), topics) };
    let consumer = broker.subscribe(&spec).await.unwrap();
    let message = Message::new(Topic::new("t.a").unwrap(), 1, Payload::Typed(Arc::new(Event)));
    let publisher = tokio::spawn(async move {
        for _ in 0..2 * messages {
            broker.publish(Outgoing { messages: Messages::One(message.clone()), delay: Duration::ZERO, origin: None }).await.unwrap();
        }
    });
    let (mut into, mut settlements) = (Vec::with_capacity(16), Vec::with_capacity(16));
    let mut handled = 0;
    let mut warm = None;
    while handled < 2 * messages {
        if handled >= messages {
            warm.get_or_insert_with(|| Region::new(ALLOCATOR));
        }
        into = consumer.receive(0, 8, into).await.unwrap();
        handled += into.len() as u64;
        settlements.extend(into.drain(..).map(|delivery| Settlement { delivery, verdict: Verdict::Ack }));
        settlements = consumer.settle(settlements).await.emptied;
    }
    let change = warm.unwrap().change();
    publisher.await.unwrap();
    change.allocations + change.reallocations
}

#[test]
fn nothing_is_allocated_per_message() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        assert_eq!(run(None, 10_000).await, 0, "without leases");
        assert_eq!(run(Some(Duration::from_secs(30)), 10_000).await, 0, "with leases");
    });
}
