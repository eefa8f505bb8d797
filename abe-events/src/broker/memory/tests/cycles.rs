//! Handlers that publish into full queues: cycles are let through and in the end refused, everything else waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;

/// A lane of `consumer` whose handler publishes `count` messages to `topic` for each it gets, up to a depth of hops.
fn lane(broker: &Arc<MemoryBroker>, consumer: &Arc<dyn Consumer>, lane: u32, topic: &'static str, count: usize, log: &Arc<Log>) {
    let (broker, consumer, log) = (broker.clone(), consumer.clone(), log.clone());
    let origin = Some(Origin { consumer: consumer.id(), lane });
    tokio::spawn(async move {
        while let Ok(mut batch) = consumer.receive(lane, 1, Vec::new()).await {
            let Some(delivery) = batch.pop() else { continue };
            let hops = number(&delivery.message);
            log.most.fetch_max(consumer.depth().pending(), Ordering::SeqCst);
            for _ in 0..if hops == 0 { 0 } else { count } {
                let published = broker.publish(Outgoing { origin, ..outgoing(to(topic, hops - 1)) }).await;
                match published {
                    Ok(_) => log.published.fetch_add(1, Ordering::SeqCst),
                    Err(failure) => {
                        assert_eq!(failure.error.kind(), ErrorKind::Full);
                        assert!(failure.error.is_retryable());
                        *log.error.lock().unwrap() = failure.error.to_string();
                        log.refused.fetch_add(1, Ordering::SeqCst)
                    }
                };
            }
            ack(&consumer, delivery).await;
        }
    });
}

#[derive(Default)]
struct Log {
    published: AtomicUsize,
    refused: AtomicUsize,
    most: AtomicU64,
    error: std::sync::Mutex<String>,
}

async fn subscribe(broker: &MemoryBroker, topic: &str, buffer: u32, lanes: u32) -> Arc<dyn Consumer> {
    let topics = vec![TopicPattern::new(topic).unwrap()];
    open(broker, &SubscriptionSpec { topics, buffer, lanes, ..spec(&format!("on-{topic}")) }).await
}

async fn ends(broker: &Arc<MemoryBroker>) {
    tokio::time::timeout(Duration::from_secs(3600), broker.idle()).await.expect("a cycle must not hang");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_publishes_to_itself_goes_on() {
    let (broker, log) = (broker(), Arc::new(Log::default()));
    let a = subscribe(&broker, "a", 1, 1).await;
    lane(&broker, &a, 0, "a", 1, &log);
    publish(&broker, to("a", 50)).await;
    ends(&broker).await;
    assert_eq!((log.published.load(Ordering::SeqCst), log.refused.load(Ordering::SeqCst)), (50, 0));
    assert!(log.most.load(Ordering::SeqCst) <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_multiplies_is_refused_beyond_the_reserve_and_the_error_names_the_cycle() {
    let (broker, log) = (broker(), Arc::new(Log::default()));
    let a = subscribe(&broker, "a", 4, 1).await;
    lane(&broker, &a, 0, "a", 2, &log);
    publish(&broker, to("a", 12)).await;
    ends(&broker).await;
    assert!(log.refused.load(Ordering::SeqCst) > 0);
    assert!(log.most.load(Ordering::SeqCst) <= 2 * 4 + 1, "{}", log.most.load(Ordering::SeqCst));
    let error = log.error.lock().unwrap().clone();
    assert!(error.contains("on-a -> on-a"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn two_handlers_that_publish_to_each_other_go_on() {
    let (broker, log) = (broker(), Arc::new(Log::default()));
    let (a, b) = (subscribe(&broker, "a", 2, 2).await, subscribe(&broker, "b", 2, 2).await);
    for number in 0..2 {
        lane(&broker, &a, number, "b", 1, &log);
        lane(&broker, &b, number, "a", 1, &log);
    }
    for topic in ["a", "b", "a", "b", "a", "b"] {
        publish(&broker, to(topic, 20)).await;
    }
    ends(&broker).await;
    assert_eq!((log.published.load(Ordering::SeqCst), log.refused.load(Ordering::SeqCst)), (120, 0));
}

#[tokio::test(start_paused = true)]
async fn three_handlers_in_a_ring_go_on_when_the_last_one_closes_it() {
    let (broker, log) = (broker(), Arc::new(Log::default()));
    let topics = ["a", "b", "c"];
    for (at, topic) in topics.into_iter().enumerate() {
        let consumer = subscribe(&broker, topic, 1, 1).await;
        lane(&broker, &consumer, 0, topics[(at + 1) % 3], 1, &log);
    }
    for topic in topics {
        publish(&broker, to(topic, 30)).await;
        publish(&broker, to(topic, 30)).await;
    }
    ends(&broker).await;
    assert_eq!((log.published.load(Ordering::SeqCst), log.refused.load(Ordering::SeqCst)), (180, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_exerts_pressure_and_is_not_overfilled() {
    let (broker, log) = (broker(), Arc::new(Log::default()));
    let (fast, slow) = (subscribe(&broker, "fast", 2, 2).await, subscribe(&broker, "slow", 2, 1).await);
    for number in 0..2 {
        lane(&broker, &fast, number, "slow", 3, &log);
    }
    let most = Arc::new(AtomicU64::new(0));
    tokio::spawn({
        let (slow, most) = (slow.clone(), most.clone());
        async move {
            loop {
                let delivery = next(&slow).await;
                // In the handler, then parked, then in the handler again: the pressure holds throughout.
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    most.fetch_max(slow.depth().pending(), Ordering::SeqCst);
                }
                ack(&slow, delivery).await;
            }
        }
    });
    let start = tokio::time::Instant::now();
    for _ in 0..10 {
        publish(&broker, to("fast", 1)).await;
    }
    ends(&broker).await;
    assert_eq!((log.published.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (30, 2));
    assert!(start.elapsed() >= Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_that_will_never_get_anything_does_not_hide_a_cycle() {
    let (broker, log) = (broker(), Arc::new(Log::default()));
    // Lane 1 of b never gets anything: b's only room is held by the message lane 0 works on.
    let (a, b) = (subscribe(&broker, "a", 1, 1).await, subscribe(&broker, "b", 1, 2).await);
    lane(&broker, &a, 0, "b", 1, &log);
    lane(&broker, &b, 0, "a", 1, &log);
    lane(&broker, &b, 1, "a", 1, &log);
    for topic in ["a", "b", "a", "b"] {
        publish(&broker, to(topic, 25)).await;
    }
    ends(&broker).await;
    assert_eq!((log.published.load(Ordering::SeqCst), log.refused.load(Ordering::SeqCst)), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_distant_delayed_message_does_not_hide_a_cycle() {
    let (broker, log) = (broker(), Arc::new(Log::default()));
    let a = subscribe(&broker, "a", 1, 2).await;
    lane(&broker, &a, 0, "a", 1, &log);
    lane(&broker, &a, 1, "a", 1, &log);
    broker.publish(Outgoing { delay: Duration::from_secs(1_000_000), ..outgoing(to("a", 0)) }).await.unwrap();
    publish(&broker, to("a", 5)).await;
    ends(&broker).await;
    assert_eq!(log.published.load(Ordering::SeqCst), 5);
}
