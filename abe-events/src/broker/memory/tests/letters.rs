//! Dead letters: unique, listed, replayed to their own subscription, purged.

use super::*;

async fn kill(broker: &MemoryBroker, consumer: &Arc<dyn Consumer>, message: Message) {
    publish(broker, message).await;
    let delivery = next(consumer).await;
    let attempt = delivery.attempt;
    settle(consumer, delivery, dead(attempt)).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_tells_everything_and_a_second_one_replaces_it() {
    let broker = broker();
    let consumer = open(&broker, &spec("a")).await;
    publish(&broker, message(7)).await;
    let delivery = next(&consumer).await;
    settle(&consumer, delivery, retry(1, 1)).await;
    let delivery = next(&consumer).await;
    let id = delivery.message.id().clone();
    settle(&consumer, delivery, dead(2)).await;
    let letters = broker.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    let letter = &letters[0];
    assert_eq!((letter.group.as_str(), letter.subscription.as_str(), letter.attempts, number(&letter.message)), ("g", "a", 2, 7));
    assert_eq!((letter.message.id(), letter.failures.len(), letter.reason()), (&id, 2, "failure 2"));
    kill(&broker, &consumer, message(8).with_id(id)).await;
    let letters = broker.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!((letters.len(), number(&letters[0].message)), (1, 8));
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_to_its_own_subscription_with_a_fresh_count() {
    let broker = broker();
    let (a, b) = (open(&broker, &spec("a")).await, open(&broker, &spec("b")).await);
    kill(&broker, &a, message(1)).await;
    let delivery = next(&b).await;
    ack(&b, delivery).await;
    let id = broker.letters.find(&DeadLetterFilter::default())[0].1.message.id().clone();
    assert_eq!(broker.dead_letters().replay(&DeadLetterFilter::default()).await.unwrap(), 1);
    assert_eq!(broker.dead_letters().count().await.unwrap(), 0);
    let again = next(&a).await;
    assert_eq!((again.attempt, again.failures.is_none(), again.message.id()), (1, true, &id));
    assert!(receive(&b, 1).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_letter_stays_in_the_store_until_its_queue_has_room() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { buffer: 1, ..spec("a") }).await;
    kill(&broker, &consumer, message(1)).await;
    publish(&broker, message(2)).await;
    let all = DeadLetterFilter::default();
    let mut replay = Box::pin(broker.dead_letters().replay(&all));
    assert!(poll_once(&mut replay).await.is_pending());
    assert_eq!(broker.letters.count(), 1);
    drop(replay);
    assert_eq!(broker.letters.count(), 1);
    let delivery = next(&consumer).await;
    ack(&consumer, delivery).await;
    let (first, second) = tokio::join!(broker.dead_letters().replay(&all), broker.dead_letters().replay(&all));
    assert_eq!(first.unwrap() + second.unwrap(), 1, "replayed once");
    let delivery = next(&consumer).await;
    ack(&consumer, delivery).await;
    assert_eq!(consumer.depth(), Depth { ..Depth::default() });
}

#[tokio::test(start_paused = true)]
async fn filters_choose_by_subscription_topic_id_and_number() {
    let broker = broker();
    let consumer = open(&broker, &SubscriptionSpec { topics: vec![TopicPattern::new("*").unwrap()], ..spec("a") }).await;
    for n in 0..3 {
        kill(&broker, &consumer, message(n)).await;
    }
    kill(&broker, &consumer, to("u", 3)).await;
    let list = async |filter: DeadLetterFilter| broker.dead_letters().list(&filter).await.unwrap();
    assert_eq!(list(DeadLetterFilter { topic: Some("u".into()), ..Default::default() }).await.len(), 1);
    assert_eq!(list(DeadLetterFilter { subscription: Some(Name::new("b").unwrap()), ..Default::default() }).await.len(), 0);
    let two = list(DeadLetterFilter { limit: 2, ..Default::default() }).await;
    assert_eq!(two.iter().map(|letter| number(&letter.message)).collect::<Vec<_>>(), [0, 1]);
    let one = DeadLetterFilter { id: Some(two[1].message.id().clone()), ..Default::default() };
    assert_eq!(broker.dead_letters().purge(&one).await.unwrap(), 1);
    assert_eq!(broker.dead_letters().count().await.unwrap(), 3);
    assert_eq!(broker.dead_letters().purge(&DeadLetterFilter::default()).await.unwrap(), 3);
}
