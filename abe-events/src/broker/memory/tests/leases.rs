//! Leases: a delivery that is not settled in its time goes to somebody else, and its first holder cannot settle it any more.

use super::*;

const LEASE: Duration = Duration::from_secs(30);

fn leased(name: &str) -> SubscriptionSpec {
    SubscriptionSpec { lease: Some(LEASE), ..spec(name) }
}

#[tokio::test(start_paused = true)]
async fn an_expired_delivery_comes_again_counted_and_its_old_token_is_stale() {
    let broker = broker();
    let (a, b) = (open(&broker, &leased("s")).await, open(&broker, &leased("s")).await);
    publish(&broker, message(1)).await;
    let stale = next(&a).await;
    let start = tokio::time::Instant::now();
    let again = next(&b).await;
    assert!(start.elapsed() >= LEASE && start.elapsed() < LEASE + Duration::from_millis(10));
    assert_eq!((again.attempt, again.message.id()), (2, stale.message.id()));
    for verdict in [Verdict::Ack, retry(1, 1), dead(1), release()] {
        let copy = Delivery { message: stale.message.clone(), attempt: 1, token: stale.token, failures: None };
        assert_eq!(settle(&a, copy, verdict).await.lost, [stale.message.id().clone()]);
    }
    assert_eq!((b.depth().unsettled, broker.letters.count()), (1, 0));
    assert_eq!(a.renew(&[stale.token]).await.unwrap(), [stale.token]);
    ack(&b, again).await;
    assert_eq!(b.depth(), Depth::default());
}

#[tokio::test(start_paused = true)]
async fn a_renewed_delivery_stays() {
    let broker = broker();
    let (a, b) = (open(&broker, &leased("s")).await, open(&broker, &leased("s")).await);
    publish(&broker, message(1)).await;
    let delivery = next(&a).await;
    for _ in 0..10 {
        tokio::time::sleep(LEASE / 3).await;
        assert!(a.renew(&[delivery.token]).await.unwrap().is_empty());
        assert!(receive(&b, 1).await.is_empty());
    }
    ack(&a, delivery).await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_can_be_settled_once() {
    let broker = broker();
    let a = open(&broker, &leased("s")).await;
    publish(&broker, message(1)).await;
    let delivery = next(&a).await;
    let copy = Delivery { message: delivery.message.clone(), attempt: 1, token: delivery.token, failures: None };
    ack(&a, delivery).await;
    publish(&broker, message(2)).await;
    let second = next(&a).await;
    assert_eq!(settle(&a, copy, Verdict::Ack).await.lost.len(), 1);
    assert_eq!(a.depth().unsettled, 1);
    ack(&a, second).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_or_dropped_consumer_gives_back_at_once_and_the_attempt_counts() {
    let broker = broker();
    let b = open(&broker, &leased("s")).await;
    for how in ["close", "drop"] {
        let a = open(&broker, &leased("s")).await;
        publish(&broker, message(1)).await;
        let held = next(&a).await;
        if how == "close" {
            a.close().await.unwrap();
        } else {
            drop(a);
        }
        let again = next(&b).await;
        assert_eq!((again.attempt, again.message.id()), (2, held.message.id()), "{how}");
        ack(&b, again).await;
    }
    // What was released before the close was never tried.
    let a = open(&broker, &leased("s")).await;
    publish(&broker, message(1)).await;
    let held = next(&a).await;
    settle(&a, held, release()).await;
    a.close().await.unwrap();
    assert_eq!(next(&b).await.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn acking_one_of_fifty_and_closing_leaves_exactly_the_other_49() {
    let broker = broker();
    let wide = SubscriptionSpec { buffer: 64, ..leased("s") };
    let a = open(&broker, &wide).await;
    broker.publish(many((0..50).map(message))).await.unwrap();
    let mut held = receive(&a, 2).await;
    ack(&a, held.remove(0)).await;
    a.close().await.unwrap();
    let b = open(&broker, &wide).await;
    let mut got = Vec::new();
    while got.len() < 49 {
        got.extend(numbers(&receive(&b, 64).await));
    }
    got.sort_unstable();
    assert_eq!(got, (1..50).collect::<Vec<_>>());
    assert_eq!(b.depth().pending(), 49);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_frees_a_consumer_that_holds_as_much_as_it_may() {
    let broker = broker();
    let a = open(&broker, &SubscriptionSpec { unsettled_max: 1, lanes: 2, ..leased("s") }).await;
    publish(&broker, message(1)).await;
    let hung = next(&a).await;
    let again = a.receive(1, 1, Vec::new()).await.unwrap();
    assert_eq!((again[0].attempt, again[0].message.id()), (2, hung.message.id()));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_parked_before_the_delivery_was_handed_out_sees_it_expire() {
    let broker = broker();
    let a = open(&broker, &SubscriptionSpec { lanes: 2, ..leased("s") }).await;
    let parked = tokio::spawn({
        let a = a.clone();
        async move { a.receive(1, 1, Vec::new()).await }
    });
    let_others_run().await;
    // Handed to lane 0 directly: the parked lane is woken, finds nothing, and must keep the time from now on.
    let (published, hung) = tokio::join!(broker.publish(outgoing(message(1))), a.receive(0, 1, Vec::new()));
    assert_eq!((published.unwrap().deliveries, hung.unwrap().len()), (1, 1));
    assert_eq!(parked.await.unwrap().unwrap()[0].attempt, 2);
}
