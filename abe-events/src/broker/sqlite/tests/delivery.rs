//! What becomes of messages: settled, fenced, restarted, shared by processes, dead and replayed.

use super::*;

#[tokio::test]
async fn a_batch_settled_leaves_nothing_behind() {
    let folder = Folder::new("empty");
    let broker = folder.open();
    let left = broker.subscribe(&spec("left", 30_000)).await.unwrap();
    let mut ordered = spec("right", 30_000);
    ordered.ordered = true;
    let right = broker.subscribe(&ordered).await.unwrap();
    let sent: Vec<Message> = (0..100).map(|i| message(Some(["a", "b", "c"][i % 3]))).collect();
    publish(&broker, &sent).await;
    broker.publish(outgoing(sent[..5].to_vec(), Duration::from_millis(20))).await.unwrap();
    for consumer in [left, right] {
        let mut done = 0;
        while done < 105 {
            let mut taken = take(&*consumer, 7).await;
            done += taken.len();
            let verdicts = [None, Some(Verdict::Release { after: Duration::ZERO })];
            if let Some(back) = verdicts.into_iter().flatten().next().filter(|_| taken.len() > 3 && taken[0].attempt == 1 && done % 2 == 0)
            {
                done -= 1;
                let delivery = taken.remove(0);
                assert!(consumer.settle(vec![Settlement { delivery, verdict: back }]).await.lost.is_empty());
            }
            let settled = consumer.settle(acks(taken)).await;
            assert!(settled.lost.is_empty() && settled.failed.is_empty(), "{settled:?}");
        }
        assert_eq!(consumer.depth().pending(), 0);
    }
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

/// Both ways a delivery can be held: with a row of its own, and as a part of a piece.
#[tokio::test]
async fn who_lost_the_lease_settles_nothing() {
    let folder = Folder::new("fence");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 150)).await.unwrap();
    publish(&broker, &[message(None)]).await;
    let first = take(&*consumer, 1).await.remove(0);
    let second = take(&*consumer, 1).await.remove(0);
    // The next lease is another consumer's, so that nothing but the file knows.
    let other = broker.subscribe(&spec("billing", 20_000)).await.unwrap();
    let third = take(&*other, 1).await.remove(0);
    assert_eq!((first.attempt, second.attempt, third.attempt), (1, 2, 3));
    assert_eq!(consumer.renew(&[first.token, second.token]).await.unwrap().len(), 2);
    for stale in [first, second] {
        let settled = consumer.settle(vec![Settlement { delivery: stale, verdict: Verdict::Ack }]).await;
        assert_eq!(settled.lost.len(), 1, "a stale ack was carried out");
    }
    assert!(other.renew(&[third.token]).await.unwrap().is_empty());
    assert!(other.settle(acks(vec![third])).await.lost.is_empty());
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

/// What the lane cannot report because its process died is counted before it began.
#[tokio::test]
async fn an_attempt_is_counted_before_it_is_handed_out() {
    let folder = Folder::new("counted");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 100)).await.unwrap();
    publish(&broker, &[message(None)]).await;
    for attempt in 1..=4 {
        // Never settled: as if the process died each time.
        assert_eq!(take(&*consumer, 1).await.remove(0).attempt, attempt);
    }
    broker.close().await.unwrap();
}

#[tokio::test]
async fn order_may_be_asked_for_later() {
    let folder = Folder::new("reorder");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let sent: Vec<Message> = (0..6).map(|_| message(Some("a"))).chain([message(None)]).collect();
    publish(&broker, &sent).await;
    let held = take(&*consumer, 2).await;
    let mut ordered = spec("billing", 30_000);
    ordered.ordered = true;
    let refused = broker.subscribe(&ordered).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Config && refused.to_string().contains("in use"), "{refused}");
    consumer.settle(acks(held)).await;
    let consumer = broker.subscribe(&ordered).await.unwrap();
    for at in [2, 3] {
        let taken = take(&*consumer, 10).await;
        let of_key: Vec<_> =
            taken.iter().filter(|delivery| delivery.message.key().is_some()).map(|delivery| delivery.message.id()).collect();
        assert_eq!(of_key, [sent[at].id()]);
        consumer.settle(acks(taken)).await;
    }
    let back = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let rest = take(&*back, 10).await;
    assert_eq!(rest.iter().map(|delivery| delivery.message.id()).collect::<Vec<_>>(), [sent[4].id(), sent[5].id()]);
    broker.close().await.unwrap();
}

#[tokio::test]
async fn dead_letters_are_one_per_message_and_replayed_in_pieces() {
    let folder = Folder::new("letters");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let sent: Vec<Message> = (0..600).map(|_| message(None)).collect();
    for _ in 0..2 {
        publish(&broker, &sent).await;
    }
    let failure = || Box::new(Failure::new(FailureKind::Permanent, 1, "no"));
    let mut left = 1_200;
    while left > 0 {
        let taken = take(&*consumer, 500).await;
        left -= taken.len();
        let dead = taken.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::DeadLetter { failure: failure() } }).collect();
        assert!(consumer.settle(dead).await.failed.is_empty());
    }
    assert_eq!(broker.count().await.unwrap(), 600);
    let some = DeadLetterFilter { limit: 300, ..Default::default() };
    assert_eq!(broker.replay(&some).await.unwrap(), 300);
    assert_eq!(broker.replay(&DeadLetterFilter::default()).await.unwrap(), 300);
    assert_eq!((broker.count().await.unwrap(), consumer.depth().pending()), (0, 600));
    broker.close().await.unwrap();
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_nothing_is_early() {
    let folder = Folder::new("restart");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let sent = [message(None), message(None), message(None)];
    publish(&broker, &sent[..2]).await;
    let began = std::time::Instant::now();
    broker.publish(outgoing(sent[2..].to_vec(), Duration::from_millis(900))).await.unwrap();
    let retried = take(&*consumer, 1).await.remove(0);
    let failure = Box::new(Failure::new(FailureKind::Error, 1, "told to fail"));
    let verdict = Verdict::Retry { after: Duration::from_millis(600), failure };
    consumer.settle(vec![Settlement { delivery: retried, verdict }]).await;
    // Neither is closed: the process is gone, as far as the file can tell.
    let ended = broker.inbox.ended.clone();
    drop((consumer, broker));
    ended.cancelled().await;

    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    assert_eq!((consumer.depth().pending(), consumer.depth().delayed, consumer.depth().accepted), (3, 2, 3));
    for (id, earliest, attempt) in [(sent[1].id(), 0, 1), (sent[0].id(), 600, 2), (sent[2].id(), 900, 1)] {
        let taken = take(&*consumer, 10).await.remove(0);
        let after = began.elapsed();
        assert_eq!((taken.message.id(), taken.attempt), (id, attempt));
        assert!(after >= Duration::from_millis(earliest), "due after {earliest} ms, it came after {after:?}");
        assert_eq!(taken.failures.as_ref().map_or(0, |failures| failures.len()), usize::from(attempt > 1));
        consumer.settle(acks(vec![taken])).await;
    }
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

/// As two processes: nothing is shared but the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_share_a_file() {
    let folder = Folder::new("two");
    let (left, right) = (folder.open(), folder.open());
    let mut wanted = spec("billing", 30_000);
    wanted.ordered = true;
    let reader = right.subscribe(&wanted).await.unwrap();
    // Asleep before anything is published, and woken by nobody but its own polling.
    let waiting = tokio::spawn({
        let reader = reader.clone();
        async move { reader.receive(0, 10, Vec::new()).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let sent = [message(Some("a")), message(Some("a")), message(Some("b"))];
    publish(&left, &sent).await;
    let first = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("woken").unwrap().unwrap();
    assert_eq!(first.iter().map(|delivery| delivery.message.id()).collect::<Vec<_>>(), [sent[0].id(), sent[2].id()]);

    let other = left.subscribe(&wanted).await.unwrap();
    let blocked = tokio::time::timeout(Duration::from_millis(200), other.receive(0, 10, Vec::new())).await;
    assert!(blocked.is_err(), "the second of a key came while the first is in another process's hands");
    assert_eq!((other.depth().ready, other.depth().unsettled), (1, 2));
    reader.settle(acks(first)).await;
    let second = take(&*other, 10).await;
    assert_eq!(second[0].message.id(), sent[1].id());
    // A subscription that the other made is known here with the next publish.
    let late = right.subscribe(&spec("late", 30_000)).await.unwrap();
    publish(&left, &sent[..1]).await;
    assert_eq!(take(&*late, 10).await.len(), 1);
    left.close().await.unwrap();
    right.close().await.unwrap();
}
