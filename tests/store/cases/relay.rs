//! The relay: in order, at least once, around what the broker refuses, one process at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{Answer, Broker, Capabilities, Consumer, DeadLetters, Outgoing, PublishFailure, Published, SubscriptionSpec};
use abe_events::{Error, ErrorKind, Result, Runtime, handlers, subscribe};

use super::common::{number, rows, run};
use super::place::Place;
use crate::support::{Notes, Paid, builder, until};

/// The memory broker, which tells what it was given and refuses what it is told to.
#[derive(Debug, Default)]
struct Picky {
    inner: MemoryBroker,
    /// Keys that are refused.
    refused: Mutex<Vec<String>>,
    /// Whether everything is.
    down: AtomicBool,
    calls: AtomicU64,
    given: Mutex<Vec<String>>,
}

impl Broker for Picky {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        self.inner.subscribe(spec)
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let refused = self.refused.lock().unwrap().clone();
        let poisoned =
            |key: Option<&str>| self.down.load(Ordering::SeqCst) || key.is_some_and(|key| refused.iter().any(|known| known == key));
        // All or nothing.
        if outgoing.messages.as_slice().iter().any(|message| poisoned(message.key())) {
            let error = Error::new(ErrorKind::NotStored, "told to refuse");
            return Answer::ready(Err(PublishFailure { stored: 0, error }));
        }
        let ids = outgoing.messages.as_slice().iter().map(|message| message.id().to_string());
        self.given.lock().unwrap().extend(ids);
        self.inner.publish(outgoing)
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

#[subscribe(name = "line", ordered)]
async fn line(paid: &Paid, notes: &Notes) {
    notes.add(format!("{} {}", paid.account, paid.number));
}

async fn start(place: &Place, broker: &Arc<Picky>, notes: &Notes) -> Runtime {
    let builder = builder().broker(broker.clone()).store(&place.url).lease(Duration::from_secs(2));
    builder.handlers(handlers![line]).state(notes.clone()).output_buffer(4_096).start().await.unwrap()
}

async fn put(place: &Place, runtime: &Runtime, numbers: std::ops::Range<i64>) {
    let mut tx = place.pool.begin().await.unwrap();
    runtime.outbox(&mut tx).publish_all(numbers.map(Paid::new)).await.unwrap();
    tx.commit().await.unwrap();
}

fn of_account(notes: &Notes, account: i64) -> Vec<i64> {
    let all = notes.all();
    let of = all.iter().filter_map(|note| note.split_once(' ')).filter(|(of, _)| *of == account.to_string());
    of.map(|(_, number)| number.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_per_key_holds_over_many_batches() {
    let Some(place) = Place::new().await else { return };
    let (broker, notes) = (Arc::new(Picky::default()), Notes::default());
    let runtime = start(&place, &broker, &notes).await;
    for begin in [0, 700, 1_400] {
        put(&place, &runtime, begin..begin + 700).await;
    }
    until("all are handled", async || notes.len() == 2_100).await;
    for account in 0..4 {
        assert!(of_account(&notes, account).is_sorted());
    }
    // Far fewer calls than messages.
    assert!(broker.calls.load(Ordering::SeqCst) < 60, "{:?}", broker.calls);
    until("none is left", async || rows(&place, "outbox").await == 0).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_refuses_keeps_its_key_waiting_and_no_other() {
    let Some(place) = Place::new().await else { return };
    let (broker, notes) = (Arc::new(Picky::default()), Notes::default());
    broker.refused.lock().unwrap().push("1".to_owned());
    let runtime = start(&place, &broker, &notes).await;
    put(&place, &runtime, 0..40).await;
    until("the others are handled", async || notes.len() == 30).await;
    assert_eq!(of_account(&notes, 1), Vec::<i64>::new());
    until("it is counted", async || {
        let outbox = runtime.monitor().outbox.unwrap();
        (outbox.pending, outbox.refused) == (10, 1) && outbox.oldest > Duration::ZERO
    })
    .await;
    let error = format!("SELECT count(*) FROM {} WHERE error LIKE '%told to refuse%'", Place::table("outbox"));
    assert_eq!(number(&place, &error).await, 1);
    broker.refused.lock().unwrap().clear();
    until("all are handled", async || notes.len() == 40).await;
    assert!(of_account(&notes, 1).is_sorted());
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_is_left_alone_and_then_gets_all() {
    let Some(place) = Place::new().await else { return };
    let (broker, notes) = (Arc::new(Picky::default()), Notes::default());
    broker.down.store(true, Ordering::SeqCst);
    let runtime = start(&place, &broker, &notes).await;
    put(&place, &runtime, 0..200).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = broker.calls.load(Ordering::SeqCst);
    assert!((1..60).contains(&calls), "{calls} calls in two seconds");
    broker.down.store(false, Ordering::SeqCst);
    until("all are handled", async || notes.len() == 200).await;
    for account in 0..4 {
        assert!(of_account(&notes, account).is_sorted());
    }
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_no_message_is_kept_with_its_error() {
    let Some(place) = Place::new().await else { return };
    let (broker, notes) = (Arc::new(Picky::default()), Notes::default());
    let runtime = start(&place, &broker, &notes).await;
    put(&place, &runtime, 0..1).await;
    until("it is handled", async || notes.len() == 1 && rows(&place, "outbox").await == 0).await;
    let mut tx = place.pool.begin().await.unwrap();
    runtime.outbox(&mut tx).publish_all((0..8).map(Paid::new)).await.unwrap();
    let spoil = format!("UPDATE {} SET topic = 'no topic' WHERE seq = (SELECT min(seq) FROM {0})", Place::table("outbox"));
    abe_events::sqlx::query(abe_events::sqlx::AssertSqlSafe(spoil)).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    // It, and the one behind it in its key's line.
    until("others are handled", async || notes.len() == 7 && rows(&place, "outbox").await == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((rows(&place, "outbox").await, of_account(&notes, 0)), (2, vec![0]));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_relays_one_works_and_the_other_goes_on_when_it_stops() {
    let Some(place) = Place::new().await else { return };
    let notes = Notes::default();
    let (first_broker, second_broker) = (Arc::new(Picky::default()), Arc::new(Picky::default()));
    let first = start(&place, &first_broker, &notes).await;
    put(&place, &first, 0..10).await;
    until("they are handled", async || notes.len() == 10).await;
    let second = start(&place, &second_broker, &notes).await;
    put(&place, &second, 10..20).await;
    until("they are handled", async || notes.len() == 20).await;
    assert_eq!(second_broker.calls.load(Ordering::SeqCst), 0);
    first.stop().await;
    put(&place, &second, 20..30).await;
    until("they are handled", async || notes.len() == 30).await;
    assert!(second_broker.calls.load(Ordering::SeqCst) > 0);
    second.stop().await;
}

/// Refuses nothing, but takes its time: meanwhile the test takes the lane away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_lane_removes_nothing() {
    let Some(place) = Place::new().await else { return };
    let (broker, notes) = (Arc::new(Picky::default()), Notes::default());
    let runtime = start(&place, &broker, &notes).await;
    put(&place, &runtime, 0..1).await;
    until("the lane is taken", async || notes.len() == 1 && rows(&place, "outbox").await == 0).await;
    // As another process would, while this one was stopped for longer than its lease: whoever publishes now is late.
    let (_, _, later) = Place::literals("", true, Duration::from_secs(3));
    let until_column = Place::lane_time();
    let mut tx = place.pool.begin().await.unwrap();
    runtime.outbox(&mut tx).publish(Paid::new(4)).await.unwrap();
    let steal = format!("UPDATE {} SET token = token + 1, {until_column} = {later}", Place::table("relay"));
    abe_events::sqlx::query(abe_events::sqlx::AssertSqlSafe(steal)).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    until("it is published by the late one", async || notes.len() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rows(&place, "outbox").await, 1, "its row is the other's to remove");
    // The other never comes: the lane is free again, and the same id is published once more.
    until("it is removed", async || rows(&place, "outbox").await == 0).await;
    let given = broker.given.lock().unwrap().clone();
    assert_eq!((given.len(), &given[1]), (3, &given[2]));
    run(&place, "SELECT 1").await;
    runtime.stop().await;
}
