//! The shorter ways: a topic's route for publishers, and runs for lanes.

use std::task::Poll;

use super::*;

fn roomy(name: &str) -> SubscriptionSpec {
    SubscriptionSpec { buffer: 100, unsettled_max: 100, ..spec(name) }
}

/// What a lane gets at once: the numbers of its run, and of deliveries.
async fn take(local: &dyn Local, max: usize, run: &mut Run) -> (Vec<usize>, Vec<Delivery>) {
    let mut deliveries = Vec::new();
    let taken = std::future::poll_fn(|cx| Poll::Ready(local.poll_take(0, max, run, &mut deliveries, cx))).await;
    if taken.is_pending() {
        local.stop_taking(0);
    }
    (run.as_slice().iter().map(number).collect(), deliveries)
}

#[tokio::test(start_paused = true)]
async fn single_messages_come_as_a_run_and_acks_are_a_number() {
    let broker = broker();
    let consumer = open(&broker, &roomy("a")).await;
    let local = consumer.local().unwrap();
    for n in 0..5 {
        publish(&broker, message(n)).await;
    }
    let mut run = Run::new();
    let (numbers, deliveries) = take(local, 3, &mut run).await;
    assert_eq!((numbers, deliveries.len()), (vec![0, 1, 2], 0));
    assert_eq!((consumer.depth().ready, consumer.depth().unsettled), (2, 3));
    local.ack(0, &run.as_slice()[..2]).unwrap();
    run.advance(2);
    assert_eq!((consumer.depth().unsettled, consumer.depth().pending(), consumer.depth().accepted), (1, 3, 5));
    // The third did not end well: as a delivery it is retried, and comes as one.
    let failed = local.delivery(0, run.pop().unwrap());
    settle(&consumer, failed, retry(0, 1)).await;
    assert!(run.is_empty());
    let (numbers, deliveries) = take(local, 9, &mut run).await;
    assert_eq!((numbers, super::numbers(&deliveries), deliveries[0].attempt), (vec![], vec![2], 2), "what was tried goes first, alone");
    let (numbers, _) = take(local, 9, &mut run).await;
    assert_eq!(numbers, [3, 4]);
    for delivery in deliveries {
        ack(&consumer, delivery).await;
    }
    local.ack(0, run.as_slice()).unwrap();
    run.advance(2);
    assert_eq!((depth_of(&*consumer), consumer.depth().accepted), (Depth::default(), 5));
}

#[tokio::test(start_paused = true)]
async fn a_shared_batch_is_handed_out_in_place_and_in_order_between_single_messages() {
    let broker = broker();
    let (a, b) = (open(&broker, &roomy("a")).await, open(&broker, &roomy("b")).await);
    publish(&broker, message(0)).await;
    broker.publish(many((1..6).map(message))).await.unwrap();
    publish(&broker, message(6)).await;
    for consumer in [&a, &b] {
        let local = consumer.local().unwrap();
        let (mut run, mut all) = (Run::new(), Vec::new());
        while all.len() < 7 {
            let (numbers, _) = take(local, 2, &mut run).await;
            assert!(!numbers.is_empty() && numbers.len() <= 2);
            local.ack(0, run.as_slice()).unwrap();
            run.advance(numbers.len());
            all.extend(numbers);
        }
        assert_eq!(all, (0..7).collect::<Vec<_>>());
        assert_eq!(depth_of(&**consumer), Depth::default());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_for_a_run_is_woken_and_one_that_gave_up_leaves_the_message_to_another() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { lanes: 2, ..roomy("a") }).await;
    let waiting = {
        let consumer = consumer.clone();
        tokio::spawn(async move {
            let (mut run, mut deliveries) = (Run::new(), Vec::new());
            let local = consumer.local().unwrap();
            std::future::poll_fn(|cx| local.poll_take(1, 9, &mut run, &mut deliveries, cx)).await.unwrap();
            number(&run.as_slice()[0])
        })
    };
    // Lane 0 takes its place in line before lane 1 does, and gives it up after it was notified.
    let local = consumer.local().unwrap();
    let (mut run, mut deliveries) = (Run::new(), Vec::new());
    let first = std::future::poll_fn(|cx| Poll::Ready(local.poll_take(0, 9, &mut run, &mut deliveries, cx))).await;
    assert!(first.is_pending());
    let_others_run().await;
    publish(&broker, message(7)).await;
    local.stop_taking(0);
    assert_eq!(waiting.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn runs_count_against_what_may_be_unsettled() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { unsettled_max: 2, ..roomy("a") }).await;
    let local = consumer.local().unwrap();
    for n in 0..4 {
        publish(&broker, message(n)).await;
    }
    let (mut first, mut second) = (Run::new(), Run::new());
    assert_eq!(take(local, 9, &mut first).await.0, [0, 1]);
    assert_eq!(take(local, 9, &mut second).await.0, Vec::<usize>::new());
    local.ack(0, &first.as_slice()[..1]).unwrap();
    assert_eq!(take(local, 9, &mut second).await.0, [2]);
}

#[tokio::test(start_paused = true)]
async fn after_close_a_run_is_not_acked_and_nothing_is_taken() {
    let broker = broker();
    let consumer = open(&broker, &roomy("a")).await;
    let local = consumer.local().unwrap();
    publish(&broker, message(1)).await;
    let mut run = Run::new();
    take(local, 9, &mut run).await;
    broker.close().await.unwrap();
    assert_eq!(kind(local.ack(0, run.as_slice())), ErrorKind::Closed);
    let (mut none, mut deliveries) = (Run::new(), Vec::new());
    let taken = std::future::poll_fn(|cx| Poll::Ready(local.poll_take(0, 9, &mut none, &mut deliveries, cx))).await;
    assert!(matches!(taken, Poll::Ready(Err(error)) if error.kind() == ErrorKind::Closed));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_each_message_goes_the_general_way() {
    let broker = broker();
    let leased = open(&broker, &SubscriptionSpec { lease: Some(Duration::from_secs(1)), ..roomy("a") }).await;
    let ordered = open(&broker, &SubscriptionSpec { ordered: true, ..roomy("b") }).await;
    assert!(leased.local().is_none() && ordered.local().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_route_is_out_of_date_as_soon_as_a_subscription_is_there() {
    let broker = broker();
    let topic = Topic::from_static("t");
    assert!(broker.route(&topic).is_none(), "nobody subscribes");
    let a = open(&broker, &roomy("a")).await;
    let route = broker.route(&topic).unwrap();
    assert!(route.is_open());
    assert_eq!(route.publish(message(1), None).await.unwrap().deliveries, 1);
    let b = open(&broker, &roomy("b")).await;
    assert!(!route.is_current() && !route.is_open());
    let route = broker.route(&topic).unwrap();
    assert!(route.is_current() && !route.is_open(), "two queues: the broker itself is asked");
    assert_eq!((numbers(&receive(&a, 9).await), numbers(&receive(&b, 9).await)), (vec![1], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_route_keeps_the_bound_and_what_a_full_queue_does() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 1, ..spec("a") }).await;
    let route = broker.route(&Topic::from_static("t")).unwrap();
    route.publish(message(1), None).await.unwrap();
    let mut second = route.publish(message(2), None);
    assert!(poll_once(&mut second).await.is_pending());
    let delivery = next(&consumer).await;
    ack(&consumer, delivery).await;
    assert_eq!(second.await.unwrap().deliveries, 1);
    let failing = SubscriptionSpec { when_full: crate::policy::WhenFull::Fail, buffer: 1, ..spec("a") };
    open(&broker, &failing).await;
    assert!(route.is_current() && !route.is_open());
    broker.close().await.unwrap();
    assert!(!route.is_open());
}
