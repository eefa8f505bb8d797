//! What must not hurt: full disks, locked files, hostile messages, rows nobody can read.

use super::*;

#[tokio::test]
async fn a_publish_that_fails_stores_nothing_and_harms_no_other() {
    let folder = Folder::new("atomic");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON abe_message WHEN new.version = 13 BEGIN SELECT RAISE(ABORT, 'no'); END";
    folder.look().execute_batch(refuse).unwrap();
    let bad = || Message::new(Topic::new("order.created").unwrap(), 13, Payload::from_bytes("{}"));
    let calls = (0..20).map(|i| {
        let messages = if i % 5 == 0 { vec![message(None), bad()] } else { vec![message(None), message(None)] };
        broker.publish(outgoing(messages, Duration::ZERO))
    });
    for (i, outcome) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        match outcome {
            Ok(published) => assert!(i % 5 != 0 && published.deliveries == 2),
            Err(failure) => assert!(i % 5 == 0 && failure.stored == 0 && failure.error.kind() == ErrorKind::NotStored, "{failure}"),
        }
    }
    let mut taken = 0;
    while taken < 32 {
        let some = take(&*consumer, 100).await;
        taken += some.len();
        consumer.settle(acks(some)).await;
    }
    assert_eq!((taken, consumer.depth().pending()), (32, 0));
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

#[tokio::test]
async fn a_row_nobody_can_read_holds_up_nobody() {
    let folder = Folder::new("unreadable");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 300)).await.unwrap();
    let sent = [message(None), message(None), message(None)];
    publish(&broker, &sent).await;
    folder.look().execute("UPDATE abe_message SET attributes = 'nonsense' WHERE seq = 2", []).unwrap();
    let taken = take(&*consumer, 10).await;
    assert_eq!(taken.iter().map(|delivery| delivery.message.id()).collect::<Vec<_>>(), [sent[0].id(), sent[2].id()]);
    consumer.settle(acks(taken)).await;
    // Mended, it comes.
    folder.look().execute("UPDATE abe_message SET attributes = NULL WHERE seq = 2", []).unwrap();
    let taken = take(&*consumer, 10).await;
    assert_eq!(taken[0].message.id(), sent[1].id());
    consumer.settle(acks(taken)).await;
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("mode");
    let broker = folder.open();
    broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(&folder.0).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        files += 1;
    }
    assert_eq!(files, 3, "the file, its log and its index");
    broker.close().await.unwrap();
}

#[test]
fn what_is_no_file_is_refused() {
    for path in ["", ":memory:", "file::memory:?cache=shared"] {
        let error = SqliteBroker::builder(path).open().unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("memory://"), "{error}");
    }
    let folder = Folder::new("not-a-database");
    std::fs::write(folder.file(), "this is no database, but long enough to be taken for one at first sight".repeat(20)).unwrap();
    let error = SqliteBroker::builder(folder.file()).open().unwrap_err();
    assert!(error.to_string().contains("not a SQLite database") && !error.to_string().contains("events.db"), "{error}");
    let error = SqliteBroker::builder(folder.0.join("no/such/folder.db")).open().unwrap_err();
    assert!(error.kind() == ErrorKind::Broker && !error.to_string().contains("such"), "{error}");
}

#[tokio::test]
async fn a_full_disk_refuses_for_certain_and_is_forgiven() {
    let folder = Folder::new("full");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    publish(&broker, &[message(None)]).await;
    // As if the disk had no more pages.
    let pages = |most: i64| {
        call(&broker.inbox, move |tx| tx.connection.pragma_update_and_check(None, "max_page_count", most, |row| row.get::<_, i64>(0)))
    };
    pages(1).await.unwrap();
    let large = || Message::new(Topic::new("order.created").unwrap(), 1, Payload::from_bytes(vec![b'x'; 1 << 20]));
    let failure = broker.publish(outgoing(vec![message(None), large()], Duration::ZERO)).await.unwrap_err();
    assert!(failure.error.kind() == ErrorKind::NotStored && failure.error.to_string().contains("disk is full"), "{failure}");
    assert!(failure.error.is_retryable());
    let held = take(&*consumer, 10).await;
    assert_eq!(held.len(), 1, "what was stored before goes on, and nothing else came");
    pages(1 << 30).await.unwrap();
    broker.publish(outgoing(vec![large()], Duration::ZERO)).await.unwrap();
    consumer.settle(acks(held)).await;
    let held = take(&*consumer, 10).await;
    consumer.settle(acks(held)).await;
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

/// What removes the message fails: then its dead letter is not there either, and the delivery is still the caller's.
#[tokio::test]
async fn a_dead_letter_and_its_removal_are_one() {
    let folder = Folder::new("one");
    let broker = folder.open();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    publish(&broker, &[message(None)]).await;
    folder.look().execute_batch("CREATE TRIGGER refuse BEFORE DELETE ON abe_message BEGIN SELECT RAISE(ABORT, 'no'); END").unwrap();
    let delivery = take(&*consumer, 1).await.remove(0);
    let failure = Box::new(Failure::new(FailureKind::Permanent, 1, "no"));
    let mut settled = consumer.settle(vec![Settlement { delivery, verdict: Verdict::DeadLetter { failure } }]).await;
    assert_eq!((settled.failed.len(), broker.count().await.unwrap()), (1, 0), "a dead letter of a message that is still there");
    folder.look().execute_batch("DROP TRIGGER refuse").unwrap();
    let (again, error) = settled.failed.remove(0);
    assert!(error.is_retryable(), "{error:?}");
    let settled = consumer.settle(vec![again]).await;
    assert_eq!((settled.failed.len(), settled.lost.len(), broker.count().await.unwrap()), (0, 0, 1));
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

/// Whatever a message holds comes back to the byte: at first, after a retry, as a dead letter, and replayed.
#[tokio::test]
async fn hostile_messages_come_back_whole() {
    use crate::message::{Headers, Lineage};
    let folder = Folder::new("hostile");
    let broker = folder.open();
    let mut ordered = spec("billing", 30_000);
    ordered.ordered = true;
    let consumer = broker.subscribe(&ordered).await.unwrap();
    let cause = Message::new(Topic::new("order.caused").unwrap(), 1, Payload::from_bytes("{}"));
    let hostile = ["", "\0", "a\0b", "'; DROP TABLE abe_message; --", "\"", "?1", "%00", "\u{202e}🦀", &"x".repeat(500)];
    let payloads = [&b""[..], b"\0", b"{\"a\":1e400,\"a\":123456789012345678901234567890}", b"\xff\xfe\xc3(", b"[\"\\u0000\"]"];
    let mut sent = Vec::new();
    for (at, text) in hostile.into_iter().enumerate() {
        let mut headers = Headers::new();
        headers.insert("tenant", &text.replace(char::is_control, "")).unwrap();
        let id = format!("id-{at}-{}", text.replace(char::is_control, "").chars().take(100).collect::<String>());
        let message = Message::new(Topic::new("order.created").unwrap(), u32::MAX, Payload::from_bytes(payloads[at % payloads.len()]));
        let message = message.with_key(Some(text.into())).with_id(id.parse().unwrap()).with_time(std::time::UNIX_EPOCH);
        sent.push(if at % 2 == 0 { message } else { message.with_headers(headers).with_lineage(Some(Lineage::of_effect(&cause))) });
    }
    let same = |sent: &Message, got: &Message| {
        assert_eq!(
            (sent.id(), sent.topic(), sent.version(), sent.key(), sent.time_ms()),
            (got.id(), got.topic(), got.version(), got.key(), got.time_ms())
        );
        assert_eq!(
            (sent.headers(), sent.correlation_id(), sent.causation_id(), sent.hops()),
            (got.headers(), got.correlation_id(), got.causation_id(), got.hops())
        );
        assert_eq!(sent.payload().to_bytes().unwrap(), got.payload().to_bytes().unwrap());
    };
    publish(&broker, &sent).await;
    let failure = |attempt| Box::new(Failure::new(FailureKind::Error, attempt, "'\0\u{7f}"));
    for attempt in 1..=2 {
        let taken = take(&*consumer, 100).await;
        assert_eq!(taken.len(), sent.len());
        taken.iter().zip(&sent).for_each(|(taken, sent)| same(sent, &taken.message));
        let verdict = || match attempt {
            1 => Verdict::Retry { after: Duration::ZERO, failure: failure(1) },
            _ => Verdict::DeadLetter { failure: failure(2) },
        };
        let settlements = taken.into_iter().map(|delivery| Settlement { delivery, verdict: verdict() }).collect();
        assert!(consumer.settle(settlements).await.failed.is_empty());
    }
    let letters = broker.list(&DeadLetterFilter::default()).await.unwrap();
    letters.iter().zip(&sent).for_each(|(letter, sent)| same(sent, &letter.message));
    for message in &sent {
        let this = DeadLetterFilter { id: Some(message.id().clone()), topic: Some("order.created".to_owned()), ..Default::default() };
        assert_eq!(broker.replay(&this).await.unwrap(), 1, "{:?}", message.id());
    }
    let nobody = DeadLetterFilter { topic: Some("' OR 1=1 --".to_owned()), ..Default::default() };
    assert_eq!(broker.purge(&nobody).await.unwrap(), 0);
    let taken = take(&*consumer, 100).await;
    taken.iter().zip(&sent).for_each(|(taken, sent)| same(sent, &taken.message));
    assert!(taken.len() == sent.len() && taken.iter().all(|delivery| delivery.attempt == 1 && delivery.failures.is_none()));
    consumer.settle(acks(taken)).await;
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

#[tokio::test]
async fn a_file_that_is_kept_locked_refuses_all_at_once() {
    let folder = Folder::new("locked");
    let broker = SqliteBroker::builder(folder.file()).busy_timeout(Duration::from_millis(200)).open().unwrap();
    let consumer = broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let other = folder.look();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = std::time::Instant::now();
    let calls = (0..50).map(|_| broker.publish(outgoing(vec![message(None)], Duration::ZERO)));
    for outcome in futures_util::future::join_all(calls).await {
        let failure = outcome.unwrap_err();
        assert!(failure.error.kind() == ErrorKind::NotStored && failure.error.to_string().contains("locked"), "{failure}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "each waited for itself: {:?}", began.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    publish(&broker, &[message(None)]).await;
    let held = take(&*consumer, 10).await;
    assert_eq!(held.len(), 1);
    consumer.settle(acks(held)).await;
    broker.close().await.unwrap();
    assert_empty(&folder.look());
}

/// Neither a kill nor a test can see a power failure; that the disk is asked can be seen.
#[tokio::test]
async fn the_connection_is_set_up_as_promised() {
    for (synchronous, expected) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
        let folder = Folder::new(&format!("pragmas-{expected}"));
        let broker = SqliteBroker::builder(folder.file()).synchronous(synchronous).open().unwrap();
        let get =
            |name: &'static str| call(&broker.inbox, move |tx| tx.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)));
        assert_eq!(get("synchronous").await.unwrap(), expected);
        assert_eq!((get("trusted_schema").await.unwrap(), get("busy_timeout").await.unwrap()), (0, 5_000));
        assert_eq!(get("journal_size_limit").await.unwrap(), 64 * 1024 * 1024);
        let durability = if expected == 2 { Durability::PowerLoss } else { Durability::ServerCrash };
        assert_eq!(broker.capabilities().durability, durability);
        broker.close().await.unwrap();
    }
}
