//! Order per key: promise 5.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn ordered(name: &str) -> SubscriptionSpec {
    SubscriptionSpec { ordered: true, buffer: 64, lanes: 8, ..spec(name) }
}

#[tokio::test(start_paused = true)]
async fn p5_a_key_is_busy_until_its_message_has_ended_and_no_other_key_waits() {
    let broker = broker();
    for lease in [None, Some(Duration::from_secs(30))] {
        let consumer = open(&broker, &SubscriptionSpec { lease, ..ordered(if lease.is_some() { "a" } else { "b" }) }).await;
        broker.publish(many([keyed("x", 1), keyed("x", 2), keyed("y", 3), message(4), message(5)])).await.unwrap();
        let mut held = receive(&consumer, 9).await;
        assert_eq!(numbers(&held), [1, 3, 4, 5]);
        assert!(receive(&consumer, 9).await.is_empty());
        let first = held.remove(0);
        settle(&consumer, first, retry(1_000, 1)).await;
        publish(&broker, keyed("x", 6)).await;
        assert!(receive(&consumer, 9).await.is_empty(), "2 and 6 wait for the retry of 1");
        let again = next(&consumer).await;
        assert_eq!((number(&again.message), again.attempt), (1, 2));
        settle(&consumer, again, release()).await;
        let again = next(&consumer).await;
        assert_eq!(number(&again.message), 1);
        settle(&consumer, again, dead(2)).await;
        for expected in [2, 6] {
            let mut got = receive(&consumer, 9).await;
            assert_eq!(numbers(&got), [expected]);
            ack(&consumer, got.remove(0)).await;
        }
        for delivery in held {
            ack(&consumer, delivery).await;
        }
        assert_eq!(consumer.depth(), Depth::default());
        consumer.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn p5_holds_over_a_lost_lease_and_for_delayed_publishes() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { lease: Some(Duration::from_secs(30)), ..ordered("a") }).await;
    broker.publish(Outgoing { delay: Duration::from_secs(1), ..outgoing(keyed("x", 0)) }).await.unwrap();
    publish(&broker, keyed("x", 1)).await;
    let hung = next(&consumer).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(receive(&consumer, 9).await.is_empty(), "0 is due, and its key is busy");
    assert_eq!(consumer.depth().delayed, 1);
    let again = next(&consumer).await;
    assert_eq!((again.attempt, again.message.id()), (2, hung.message.id()));
    ack(&consumer, again).await;
    let last = next(&consumer).await;
    assert_eq!(number(&last.message), 0);
    ack(&consumer, last).await;
    assert_eq!(consumer.depth(), Depth::default());
}

#[tokio::test(start_paused = true)]
async fn the_order_of_a_subscription_is_not_changed_under_way() {
    let broker = broker();
    let consumer = open(&broker, &ordered("a")).await;
    assert_eq!(kind(broker.subscribe(&spec("a")).await), ErrorKind::Config);
    consumer.close().await.unwrap();
    open(&broker, &spec("a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_keys_over_eight_lanes_with_retries_stay_in_order() {
    let broker = broker();
    let consumer = open(&broker, &ordered("a")).await;
    let per_key = 100;
    let ended: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let count = Arc::new(AtomicUsize::new(0));
    let lanes: Vec<_> = (0..8u32)
        .map(|lane| {
            let (consumer, ended, count) = (consumer.clone(), ended.clone(), count.clone());
            tokio::spawn(async move {
                while let Ok(batch) = consumer.receive(lane, 3, Vec::new()).await {
                    for delivery in batch {
                        let (key, number) = (delivery.message.key().unwrap().to_string(), number(&delivery.message));
                        if number % 7 == 0 {
                            tokio::task::yield_now().await;
                        }
                        if number == 0 && delivery.attempt < 3 {
                            let attempt = delivery.attempt;
                            settle(&consumer, delivery, retry(2, attempt)).await;
                            continue;
                        }
                        {
                            let mut ended = ended.lock().unwrap();
                            let next = ended.entry(key).or_default();
                            assert_eq!(*next, number);
                            *next += 1;
                        }
                        ack(&consumer, delivery).await;
                        if count.fetch_add(1, Ordering::SeqCst) + 1 == 16 * per_key {
                            consumer.close().await.unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    for number in 0..per_key {
        for key in 0..16 {
            publish(&broker, keyed(&format!("key-{key}"), number)).await;
        }
    }
    for lane in lanes {
        tokio::time::timeout(Duration::from_secs(60), lane).await.unwrap().unwrap();
    }
    assert!(ended.lock().unwrap().values().all(|next| *next == per_key));
    assert_eq!(consumer.depth(), Depth::default());
}
