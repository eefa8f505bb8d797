//! The numbered promises of [`Broker`].

use super::*;

#[tokio::test(start_paused = true)]
async fn p1_ok_means_every_matching_subscription_holds_it() {
    let broker = broker();
    let (a, b) = (open(&broker, &spec("a")).await, open(&broker, &spec("b")).await);
    let other = SubscriptionSpec { topics: vec![TopicPattern::new("other.>").unwrap()], ..spec("c") };
    let c = open(&broker, &other).await;
    assert_eq!(publish(&broker, message(1)).await, 2);
    assert_eq!(publish(&broker, to("other.x", 2)).await, 1);
    assert_eq!(publish(&broker, to("nobody", 3)).await, 0);
    let batch = many([message(4), to("other.y", 5), message(6)]);
    assert_eq!(broker.publish(batch).await.unwrap().deliveries, 5);
    assert_eq!(numbers(&receive(&a, 9).await), [1, 4, 6]);
    assert_eq!(numbers(&receive(&b, 9).await), [1, 4, 6]);
    assert_eq!(numbers(&receive(&c, 9).await), [2, 5]);
}

#[tokio::test(start_paused = true)]
async fn p2_a_subscription_outlives_its_consumers() {
    let broker = broker();
    open(&broker, &spec("a")).await.close().await.unwrap();
    publish(&broker, message(1)).await;
    let again = open(&broker, &spec("a")).await;
    assert_eq!(numbers(&receive(&again, 9).await), [1]);
}

#[tokio::test(start_paused = true)]
async fn p3_subscriptions_do_not_share_a_fate() {
    let broker = broker();
    let (a, b) = (open(&broker, &spec("a")).await, open(&broker, &spec("b")).await);
    publish(&broker, message(1)).await;
    let delivery = next(&a).await;
    settle(&a, delivery, dead(1)).await;
    let delivery = next(&b).await;
    assert_eq!(delivery.attempt, 1);
    ack(&b, delivery).await;
    assert_eq!((a.depth().pending(), b.depth().pending(), broker.dead_letters().count().await.unwrap()), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn p4_a_publishers_order_is_kept_for_single_and_batched_publishes() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 100, unsettled_max: 1000, ..spec("a") }).await;
    let second = open(&broker, &SubscriptionSpec { buffer: 100, unsettled_max: 1000, ..spec("b") }).await;
    for start in (0..60).step_by(6) {
        publish(&broker, message(start)).await;
        broker.publish(many((1..4).map(|n| message(start + n)))).await.unwrap();
        publish(&broker, message(start + 4)).await;
        publish(&broker, message(start + 5)).await;
    }
    for consumer in [consumer, second] {
        let mut got = Vec::new();
        while got.len() < 60 {
            got.extend(numbers(&receive(&consumer, 7).await));
        }
        assert_eq!(got, (0..60).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn p6_attempts_count_from_one() {
    let broker = broker();
    let consumer = open(&broker, &spec("a")).await;
    publish(&broker, message(1)).await;
    for attempt in 1..=4 {
        let delivery = next(&consumer).await;
        assert_eq!(delivery.attempt, attempt);
        assert_eq!(delivery.failures.as_ref().map_or(0, |failures| failures.len()) as u32, attempt - 1);
        settle(&consumer, delivery, retry(10, attempt)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p7_a_foreign_token_changes_nothing() {
    let broker = broker();
    let (a, b) = (open(&broker, &spec("a")).await, open(&broker, &spec("b")).await);
    publish(&broker, message(1)).await;
    let (of_a, of_b) = (next(&a).await, next(&b).await);
    let id = of_b.message.id().clone();
    assert_eq!(settle(&a, of_b, Verdict::Ack).await.lost, [id]);
    assert_eq!((a.depth().unsettled, b.depth().unsettled), (1, 1));
    ack(&a, of_a).await;
    assert_eq!((a.depth().unsettled, b.depth().unsettled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn p8_a_retry_is_never_early_and_comes_before_what_is_newer() {
    let broker = broker();
    let consumer = open(&broker, &spec("a")).await;
    publish(&broker, message(1)).await;
    let start = tokio::time::Instant::now();
    let delivery = next(&consumer).await;
    settle(&consumer, delivery, retry(250, 1)).await;
    assert_eq!(consumer.depth(), Depth { delayed: 1, ..Depth::default() });
    let again = next(&consumer).await;
    assert!(start.elapsed() >= Duration::from_millis(250) && start.elapsed() < Duration::from_millis(260));
    settle(&consumer, again, retry(5, 2)).await;
    publish(&broker, message(2)).await;
    tokio::time::sleep(Duration::from_millis(6)).await;
    assert_eq!(numbers(&receive(&consumer, 9).await), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn p8_an_earlier_retry_overtakes_the_timer_of_a_parked_lane() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { lanes: 4, ..spec("a") }).await;
    let start = tokio::time::Instant::now();
    broker.publish(Outgoing { delay: Duration::from_secs(60), ..outgoing(message(1)) }).await.unwrap();
    let (got, mut order) = tokio::sync::mpsc::channel(4);
    for lane in 0..4 {
        let (consumer, got) = (consumer.clone(), got.clone());
        tokio::spawn(async move {
            let delivery = consumer.receive(lane, 1, Vec::new()).await.unwrap().pop().unwrap();
            got.send((number(&delivery.message), start.elapsed().as_secs())).await.unwrap();
            // The lane goes on with its work and does not come back.
            std::future::pending::<()>().await;
        });
    }
    let_others_run().await;
    broker.publish(Outgoing { delay: Duration::from_secs(5), ..outgoing(message(2)) }).await.unwrap();
    publish(&broker, message(3)).await;
    assert_eq!(order.recv().await, Some((3, 0)));
    assert_eq!(order.recv().await, Some((2, 5)));
    assert_eq!(order.recv().await, Some((1, 60)));
}

#[tokio::test(start_paused = true)]
async fn p9_a_dead_letter_that_cannot_be_stored_leaves_the_message_where_it_is() {
    let broker = Arc::new(MemoryBroker::builder().dead_letters_max(0).build());
    for lease in [None, Some(Duration::from_secs(30))] {
        let consumer = open(&broker, &SubscriptionSpec { lease, ..spec(if lease.is_some() { "a" } else { "b" }) }).await;
        publish(&broker, message(1)).await;
        let delivery = next(&consumer).await;
        let mut settled = settle(&consumer, delivery, dead(1)).await;
        let (settlement, error) = settled.failed.pop().unwrap();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.to_string().contains("at most 0 dead letters"), "{error}");
        assert_eq!((consumer.depth().unsettled, settlement.delivery.failures.is_none()), (1, true));
        settle(&consumer, settlement.delivery, retry(1, 1)).await;
        let again = next(&consumer).await;
        assert_eq!((again.attempt, again.failures.as_ref().unwrap().len()), (2, 1));
        ack(&consumer, again).await;
        consumer.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn p10_a_release_does_not_count() {
    let broker = broker();
    let consumer = open(&broker, &spec("a")).await;
    publish(&broker, message(1)).await;
    for _ in 0..3 {
        let delivery = next(&consumer).await;
        assert_eq!(delivery.attempt, 1);
        settle(&consumer, delivery, release()).await;
    }
    let delivery = next(&consumer).await;
    settle(&consumer, delivery, Verdict::Release { after: Duration::from_millis(20) }).await;
    assert!(receive(&consumer, 1).await.is_empty());
    assert_eq!(next(&consumer).await.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn p12_after_close_every_call_fails_and_those_who_wait_are_sent_away() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 1, ..spec("a") }).await;
    let idle = open(&broker, &SubscriptionSpec { topics: vec![TopicPattern::new("u").unwrap()], ..spec("b") }).await;
    publish(&broker, message(1)).await;
    let publisher = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(outgoing(message(2))).await }
    });
    let receiver = tokio::spawn(async move { idle.receive(0, 1, Vec::new()).await });
    let_others_run().await;
    let (first, second) = tokio::join!(broker.close(), broker.close());
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(kind(publisher.await.unwrap()), ErrorKind::Closed);
    assert_eq!(kind(receiver.await.unwrap()), ErrorKind::Closed);
    assert_eq!(kind(broker.publish(outgoing(message(3))).await), ErrorKind::Closed);
    assert_eq!(kind(broker.subscribe(&spec("z")).await), ErrorKind::Closed);
    assert_eq!(kind(consumer.receive(0, 1, Vec::new()).await), ErrorKind::Closed);
    assert_eq!(kind(consumer.renew(&[]).await), ErrorKind::Closed);
    assert_eq!(kind(broker.dead_letters().count().await), ErrorKind::Closed);
    broker.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_can_be_closed_alone_and_twice() {
    let broker = broker();
    let (a, b) = (open(&broker, &spec("a")).await, open(&broker, &spec("a")).await);
    let waiting = tokio::spawn({
        let a = a.clone();
        async move { a.receive(0, 1, Vec::new()).await }
    });
    let_others_run().await;
    a.close().await.unwrap();
    a.close().await.unwrap();
    assert_eq!(kind(waiting.await.unwrap()), ErrorKind::Closed);
    publish(&broker, message(1)).await;
    assert_eq!(numbers(&receive(&b, 9).await), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_dropped_loses_nothing_and_passes_its_wake_up_on() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { lanes: 2, ..spec("a") }).await;
    let mut quitter = Box::pin(consumer.receive(0, 1, Vec::new()));
    assert!(poll_once(&mut quitter).await.is_pending() && poll_once(&mut quitter).await.is_pending());
    let stays = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive(1, 1, Vec::new()).await }
    });
    let_others_run().await;
    publish(&broker, message(1)).await;
    drop(quitter);
    assert_eq!(numbers(&stays.await.unwrap().unwrap()), [1]);
}

#[tokio::test(start_paused = true)]
async fn unsettled_max_bounds_what_is_handed_out() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { unsettled_max: 2, buffer: 10, ..spec("a") }).await;
    broker.publish(many((0..5).map(message))).await.unwrap();
    let mut held = receive(&consumer, 10).await;
    assert_eq!(held.len(), 2);
    assert!(receive(&consumer, 10).await.is_empty());
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive(0, 10, Vec::new()).await }
    });
    let_others_run().await;
    ack(&consumer, held.pop().unwrap()).await;
    assert_eq!(numbers(&waiting.await.unwrap().unwrap()), [2]);
}

#[tokio::test(start_paused = true)]
async fn depth_and_idle_are_exact() {
    let broker = broker();
    let consumer = open(&broker, &spec("a")).await;
    assert_eq!(broker.idle().await, None);
    broker.publish(many((0..3).map(message))).await.unwrap();
    let held = receive(&consumer, 2).await;
    let depth = consumer.depth();
    assert_eq!((depth.ready, depth.unsettled, depth.delayed, depth.shed), (1, 2, 0, 0));
    assert_eq!(depth.bytes, 3 * held[0].message.weight() as u64);
    let idle = tokio::spawn({
        let broker = broker.clone();
        async move { broker.idle().await }
    });
    let_others_run().await;
    for delivery in held {
        ack(&consumer, delivery).await;
    }
    let_others_run().await;
    assert!(!idle.is_finished());
    let last = next(&consumer).await;
    settle(&consumer, last, retry(500, 1)).await;
    assert_eq!(idle.await.unwrap(), Some(tokio::time::Instant::now() + Duration::from_millis(500)));
    let last = next(&consumer).await;
    ack(&consumer, last).await;
    assert_eq!((broker.idle().await, consumer.depth()), (None, Depth::default()));
}

#[tokio::test(start_paused = true)]
async fn made_up_topics_fill_no_memory() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { topics: vec![TopicPattern::new(">").unwrap()], ..spec("a") }).await;
    for number in 0..1500 {
        let topic = Topic::new(&format!("made.up{number}")).unwrap();
        publish(&broker, Message::new(topic, 1, Payload::from_bytes("1"))).await;
        let delivery = next(&consumer).await;
        ack(&consumer, delivery).await;
    }
    assert!(broker.routes.known().len() <= 1024);
}
