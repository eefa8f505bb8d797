//! What only the inside can see: plans of statements, commits, tokens, and what is left in the tables.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::super::{
    Broker, Consumer, DeadLetterFilter, DeadLetters, Delivery, Failure, FailureKind, Messages, Outgoing, Settlement, SubscriptionSpec,
    Verdict,
};
use super::claim::{BACKLOG, DUE, EXPIRED, NEXT_DUE, NEXT_UNTIL};
use super::*;
use crate::message::{Message, Payload};
use crate::topic::{Name, Topic, TopicPattern};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("abe-events-sqlite-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("events.db")
    }

    fn open(&self) -> SqliteBroker {
        SqliteBroker::builder(self.file()).open().unwrap()
    }

    fn look(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn spec(name: &str, lease_ms: u64) -> SubscriptionSpec {
    let topics = vec![TopicPattern::new("order.>").unwrap()];
    let mut spec = SubscriptionSpec::new(Name::new("shop").unwrap(), Name::new(name).unwrap(), topics);
    spec.lease = Some(Duration::from_millis(lease_ms));
    spec.unsettled_max = 10_000;
    spec
}

fn message(key: Option<&str>) -> Message {
    Message::new(Topic::new("order.created").unwrap(), 1, Payload::from_bytes("{}")).with_key(key.map(Into::into))
}

fn outgoing(messages: Vec<Message>, delay: Duration) -> Outgoing {
    Outgoing { messages: Messages::Many(messages), delay, origin: None }
}

async fn publish(broker: &SqliteBroker, messages: &[Message]) {
    broker.publish(outgoing(messages.to_vec(), Duration::ZERO)).await.unwrap();
}

async fn take(consumer: &dyn Consumer, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(Duration::from_secs(10), consumer.receive(0, max, Vec::new())).await.expect("a delivery in time").unwrap()
}

fn acks(deliveries: Vec<Delivery>) -> Vec<Settlement> {
    deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Every table that holds messages is empty: nothing is left of what has ended.
fn assert_empty(connection: &Connection) {
    for table in ["abe_message", "abe_sharing", "abe_backlog", "abe_lease", "abe_delivery"] {
        assert_eq!(count(connection, table), 0, "{table}");
    }
    let counters = "SELECT pending, unsettled, delayed, bytes FROM abe_subscription";
    let mut statement = connection.prepare(counters).unwrap();
    let rows = statement.query_map([], |row| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?])).unwrap();
    for row in rows {
        assert_eq!(row.unwrap(), [0_i64; 4]);
    }
}

fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let count = statement.parameter_count();
    for at in 1..=count {
        statement.raw_bind_parameter(at, 1).unwrap();
    }
    let mut rows = statement.raw_query();
    let mut plan = String::new();
    while let Some(row) = rows.next().unwrap() {
        plan.push_str(&row.get::<_, String>(3).unwrap());
        plan.push('\n');
    }
    plan
}

#[tokio::test]
async fn whatever_is_looked_for_is_found_by_index() {
    let folder = Folder::new("plans");
    let broker = folder.open();
    let connection = folder.look();
    let line = "SELECT 1 FROM abe_delivery WHERE subscription = ?1 AND key = ?2 LIMIT 1";
    let next = "SELECT seq FROM abe_delivery WHERE subscription = ?1 AND key = ?2 AND due IS NULL ORDER BY seq LIMIT 1";
    for sql in [DUE, BACKLOG, EXPIRED, NEXT_DUE, NEXT_UNTIL, line, next] {
        let plan = plan(&connection, sql);
        assert!(plan.contains("SEARCH") && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
    assert!(plan(&connection, DUE).contains("abe_delivery_due"), "{}", plan(&connection, DUE));
    broker.close().await.unwrap();
}

/// Steps of the virtual machine are counted, not time: a claim in a long backlog takes no more of them.
#[tokio::test]
async fn a_claim_costs_the_same_in_a_long_backlog() {
    let mut steps = Vec::new();
    for backlog in [100, 20_000] {
        let folder = Folder::new(&format!("flat-{backlog}"));
        let broker = folder.open();
        broker.subscribe(&spec("billing", 30_000)).await.unwrap();
        for _ in 0..backlog / 100 {
            publish(&broker, &vec![message(None); 100]).await;
        }
        broker.close().await.unwrap();
        let connection = folder.look();
        let mut statement = connection.prepare(BACKLOG).unwrap();
        let rows = statement.query_map([1, 0, 50], |row| row.get::<_, i64>(0)).unwrap().count();
        assert_eq!(rows, 50);
        steps.push(statement.get_status(rusqlite::StatementStatus::VmStep));
    }
    assert_eq!(steps[0], steps[1], "steps of a claim in a backlog of 100 and of 20,000");
}

#[tokio::test]
async fn what_is_published_at_once_shares_commits() {
    let folder = Folder::new("group");
    let broker = Arc::new(folder.open());
    broker.subscribe(&spec("billing", 30_000)).await.unwrap();
    let before = broker.commits();
    let publishing = (0..1_000).map(|_| broker.publish(outgoing(vec![message(None)], Duration::ZERO)));
    for published in futures_util::future::join_all(publishing).await {
        assert_eq!(published.unwrap().deliveries, 1);
    }
    let commits = broker.commits() - before;
    assert!(commits <= 100, "{commits} commits for 1,000 publishes at once");
    let one_by_one = broker.commits();
    for _ in 0..5 {
        publish(&broker, &[message(None)]).await;
    }
    assert_eq!(broker.commits() - one_by_one, 5, "each awaited publish was committed before it was answered");
    broker.close().await.unwrap();
}

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
