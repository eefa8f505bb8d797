//! Bounds: promise 11, and that nothing is lost or given twice under them.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::*;
use crate::policy::WhenFull;

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_its_publisher_wait_until_something_is_settled() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 2, ..spec("a") }).await;
    publish(&broker, message(0)).await;
    publish(&broker, message(1)).await;
    let publisher = tokio::spawn({
        let broker = broker.clone();
        async move { publish(&broker, message(2)).await }
    });
    let mut held = receive(&consumer, 9).await;
    let_others_run().await;
    assert!(!publisher.is_finished(), "handed out is not settled");
    ack(&consumer, held.remove(0)).await;
    assert_eq!(publisher.await.unwrap(), 1);
    assert_eq!((consumer.depth().ready, consumer.depth().unsettled), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn bytes_bound_as_well_and_a_message_larger_than_the_bound_passes_alone() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer_bytes: 1_000, buffer: 100, ..spec("a") }).await;
    let large = || Message::new(Topic::from_static("t"), 1, Payload::from_bytes(vec![b'1'; 5_000]));
    publish(&broker, large()).await;
    let mut second = Box::pin(broker.publish(outgoing(message(1))));
    assert!(poll_once(&mut second).await.is_pending());
    let delivery = next(&consumer).await;
    ack(&consumer, delivery).await;
    second.await.unwrap();
    let mut third = Box::pin(broker.publish(outgoing(large())));
    assert!(poll_once(&mut third).await.is_pending());
    let delivery = next(&consumer).await;
    ack(&consumer, delivery).await;
    third.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_buffer_flows_through_in_order_while_others_are_not_held_up() {
    let broker = broker();
    let (slow, fast) =
        (open(&broker, &spec("slow")).await, open(&broker, &SubscriptionSpec { buffer: 500, unsettled_max: 500, ..spec("fast") }).await);
    let publisher = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(many((0..300).map(message))).await }
    });
    let_others_run().await;
    assert_eq!(receive(&fast, 500).await.len(), 300, "a slow subscription holds up no other");
    let mut got = Vec::new();
    while got.len() < 300 {
        for delivery in slow.receive(0, 3, Vec::new()).await.unwrap() {
            assert!(slow.depth().pending() <= 4);
            got.push(number(&delivery.message));
            ack(&slow, delivery).await;
        }
    }
    assert_eq!(got, (0..300).collect::<Vec<_>>());
    assert_eq!(publisher.await.unwrap().unwrap().deliveries, 600);
}

#[tokio::test(start_paused = true)]
async fn fail_stores_nothing_anywhere() {
    let broker = broker();
    let waits = open(&broker, &spec("a-waits")).await;
    let fails = open(&broker, &SubscriptionSpec { buffer: 2, when_full: WhenFull::Fail, ..spec("b-fails") }).await;
    let also = open(&broker, &SubscriptionSpec { when_full: WhenFull::Fail, ..spec("c-fails") }).await;
    publish(&broker, message(0)).await;
    let failure = broker.publish(many([message(1), message(2)])).await.unwrap_err();
    assert_eq!((failure.stored, failure.error.kind()), (0, ErrorKind::Full));
    publish(&broker, message(1)).await;
    assert_eq!(kind(broker.publish(outgoing(message(2))).await), ErrorKind::Full);
    for consumer in [waits, fails, also] {
        assert_eq!(consumer.depth().pending(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn shed_is_counted_and_touches_no_other_subscription() {
    let broker = broker();
    let sheds = open(&broker, &SubscriptionSpec { buffer: 2, when_full: WhenFull::Shed, ..spec("a") }).await;
    let keeps = open(&broker, &SubscriptionSpec { buffer: 20, ..spec("b") }).await;
    assert_eq!(publish(&broker, message(0)).await, 2);
    assert_eq!(broker.publish(many((1..5).map(message))).await.unwrap().deliveries, 5);
    assert_eq!(publish(&broker, message(5)).await, 1);
    assert_eq!((sheds.depth().ready, sheds.depth().shed, keeps.depth().ready), (2, 4, 6));
}

#[tokio::test(start_paused = true)]
async fn delayed_messages_have_a_bound_of_their_own_and_pause_the_hand_out() {
    let broker = Arc::new(MemoryBroker::builder().delayed_max(2).build());
    let consumer = open(&broker, &SubscriptionSpec { buffer: 10, ..spec("a") }).await;
    let delayed = |number| Outgoing { delay: Duration::from_secs(10), ..outgoing(message(number)) };
    broker.publish(delayed(0)).await.unwrap();
    broker.publish(delayed(1)).await.unwrap();
    publish(&broker, message(2)).await;
    assert_eq!((consumer.depth().delayed, consumer.depth().ready), (2, 1));
    assert!(receive(&consumer, 9).await.is_empty(), "what is handed out could not be retried");
    let start = tokio::time::Instant::now();
    let waits = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(delayed(3)).await.map(|_| tokio::time::Instant::now()) }
    });
    let mut got = Vec::new();
    while got.len() < 4 {
        for delivery in consumer.receive(0, 1, Vec::new()).await.unwrap() {
            got.push(number(&delivery.message));
            ack(&consumer, delivery).await;
        }
    }
    assert_eq!(got, [0, 1, 2, 3]);
    assert!(waits.await.unwrap().unwrap() >= start + Duration::from_secs(10));
    assert_eq!(consumer.depth(), Depth::default());
}

#[tokio::test(start_paused = true)]
async fn waiting_publishers_are_served_in_turn() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 1, ..spec("a") }).await;
    publish(&broker, message(0)).await;
    for number in 1..20 {
        let broker = broker.clone();
        tokio::spawn(async move { publish(&broker, message(number)).await });
        let_others_run().await;
    }
    for expected in 0..20 {
        let delivery = next(&consumer).await;
        assert_eq!(number(&delivery.message), expected);
        ack(&consumer, delivery).await;
        let_others_run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_is_dropped_while_it_waits_leaves_no_trace() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 1, ..spec("a") }).await;
    publish(&broker, message(0)).await;
    let mut dropped = Box::pin(broker.publish(outgoing(message(1))));
    assert!(poll_once(&mut dropped).await.is_pending());
    let delivery = next(&consumer).await;
    ack(&consumer, delivery).await;
    let mut idle = Box::pin(broker.idle());
    assert!(poll_once(&mut idle).await.is_pending(), "room is taken for it");
    drop(dropped);
    assert_eq!(idle.await, None);
    assert_eq!(consumer.depth(), Depth::default());
    publish(&broker, message(2)).await;
    assert_eq!(number(&next(&consumer).await.message), 2);
}

/// Publishers and lanes on several threads; every message exactly once, and never more in the queue than its bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_million_messages_through_a_queue_of_64_come_exactly_once() {
    const PUBLISHERS: usize = 4;
    const LANES: u32 = 4;
    let total: usize = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 64, lanes: LANES, ..spec("a") }).await;
    let seen: Arc<Vec<AtomicU8>> = Arc::new((0..total).map(|_| AtomicU8::new(0)).collect());
    let count = Arc::new(AtomicUsize::new(0));
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (consumer, seen, count) = (consumer.clone(), seen.clone(), count.clone());
            tokio::spawn(async move {
                let mut into = Vec::new();
                while let Ok(mut batch) = consumer.receive(lane, 16, into).await {
                    assert!(consumer.depth().pending() <= 64);
                    let taken = batch.len();
                    let settlements = batch.drain(..).map(|delivery| {
                        let number = delivery.message.id().to_string().parse::<usize>().unwrap();
                        assert_eq!(seen[number].fetch_add(1, Ordering::Relaxed), 0);
                        Settlement { delivery, verdict: Verdict::Ack }
                    });
                    let settlements = settlements.collect();
                    consumer.settle(settlements).await;
                    into = batch;
                    if count.fetch_add(taken, Ordering::SeqCst) + taken == total {
                        consumer.close().await.unwrap();
                    }
                }
            })
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let mut number = publisher;
                while number < total {
                    let make = |number: usize| message(0).with_id(number.to_string().parse().unwrap());
                    if number % 5 == 0 {
                        let batch: Vec<usize> = (number..total).step_by(PUBLISHERS).take(100).collect();
                        number += PUBLISHERS * batch.len();
                        broker.publish(many(batch.into_iter().map(make))).await.unwrap();
                    } else {
                        publish(&broker, make(number)).await;
                        number += PUBLISHERS;
                    }
                }
            })
        })
        .collect();
    for task in publishers.into_iter().chain(lanes) {
        tokio::time::timeout(Duration::from_secs(300), task).await.expect("no wake-up is lost").unwrap();
    }
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    assert_eq!(consumer.depth(), Depth::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closing_while_everybody_works_hangs_nobody() {
    for round in 0..50 {
        let broker = broker();
        let consumer = open(&broker, &SubscriptionSpec { lanes: 2, ..spec("a") }).await;
        let mut tasks = Vec::new();
        for lane in 0..2 {
            let consumer = consumer.clone();
            tasks.push(tokio::spawn(async move {
                while let Ok(batch) = consumer.receive(lane, 4, Vec::new()).await {
                    consumer.settle(batch.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()).await;
                }
            }));
        }
        for _ in 0..3 {
            let broker = broker.clone();
            tasks.push(tokio::spawn(async move { while broker.publish(outgoing(message(1))).await.is_ok() {} }));
        }
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let (first, second) = tokio::join!(broker.close(), broker.close());
        assert!(first.is_ok() && second.is_ok());
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(20), task).await.expect("woken by the close").unwrap();
        }
    }
}
