//! What belongs together stays in order, and what does not runs side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::broker::{Consumer, Settlement, Verdict};
use crate::{Id, Message};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::conformance::Clock;
use crate::conformance::bench::{Bench, Check, Fault, Got, ensure, keyed, numbered, retry_after, within};

/// 5: of two messages of one key the second waits until the first is settled.
pub(crate) async fn no_ack(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut spec = bench.spec("reader", &topic)?;
    spec.ordered = true;
    let consumer = bench.consumer(&spec).await?;
    bench.publish(&[keyed(&topic, "a", "first"), keyed(&topic, "a", "second")]).await?;
    let mut held = bench.take(&*consumer, 2).await?;
    ensure!(held.len() == 1, "both messages of a key were handed out at once");
    ensure!(held[0].message.payload().to_bytes()? == "first", "the second came first");
    bench.nothing_comes(&*consumer).await?;
    bench.ack(&*consumer, held.split_off(0)).await?;
    let second = within("the second message", Duration::from_secs(5), bench.take_one(&*consumer)).await??;
    ensure!(second.message.payload().to_bytes()? == "second", "the first came again");
    bench.ack(&*consumer, vec![second]).await?;
    bench.nothing_comes(&*consumer).await
}

/// 9: sixteen keys, read by several consumers at once: each key in the order it was published.
pub(crate) async fn publish_subscribe_in_order(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut spec = bench.spec("reader", &topic)?;
    spec.ordered = true;
    bench.declare(&spec).await?;
    let sent: Vec<Message> =
        (0..bench.sized(100, 1_000)).map(|i| keyed(&topic, &format!("key-{}", i % 16), (i % 16).to_string())).collect();
    bench.publish(&sent).await?;
    let mut readers = Vec::new();
    for _ in 0..if bench.broker.capabilities().competing_consumers { 10 } else { 1 } {
        readers.push((bench.consumer(&spec).await?, 0));
    }
    let got = bench.read_together(readers, &sent).await?;
    in_order(&sent, got.iter().map(|got| &got.message))
}

/// Per key, the ids came in the order they were published.
fn in_order<'m>(sent: &'m [Message], got: impl Iterator<Item = &'m Message>) -> Check {
    fn by_key<'m>(messages: impl Iterator<Item = &'m Message>) -> BTreeMap<String, Vec<Id>> {
        let mut keys: BTreeMap<String, Vec<Id>> = BTreeMap::new();
        messages.for_each(|message| keys.entry(message.key().unwrap_or_default().to_owned()).or_default().push(message.id().clone()));
        keys
    }
    let (want, got) = (by_key(sent.iter()), by_key(got));
    for (key, want) in &want {
        ensure!(got.get(key) == Some(want), "key {key:?} came out of order: {:?} instead of {want:?}", got.get(key));
    }
    Ok(())
}

/// A14: eight competing consumers with a handler of 50 ms: at least four handlers at once.
pub(crate) async fn real_parallelism(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    bench.declare(&spec).await?;
    bench.publish(&numbered(&topic, 80)).await?;
    let (running, peak, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut consumers = JoinSet::new();
    for _ in 0..8 {
        let (consumer, running, peak, done) = (bench.consumer(&spec).await?, running.clone(), peak.clone(), done.clone());
        consumers.spawn(async move {
            while let Ok(Ok(deliveries)) = timeout(Duration::from_secs(1), consumer.receive(0, 1, Vec::new())).await {
                peak.fetch_max(1 + running.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(deliveries.len(), Ordering::SeqCst);
                consumer.settle(deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()).await;
            }
        });
    }
    within("80 messages", 3 * bench.patience(), consumers.join_all()).await?;
    let (peak, done) = (peak.load(Ordering::SeqCst), done.load(Ordering::SeqCst));
    ensure!(done == 80, "{done} of 80 messages were handled");
    ensure!(peak >= 4, "at most {peak} of 8 handlers ran at once");
    Ok(())
}

/// What the lanes of A15 share.
struct Ledger {
    /// The keys being handled now.
    open: Mutex<BTreeSet<String>>,
    /// What was handled, in order.
    done: Mutex<Vec<Message>>,
    /// The first thing that went wrong.
    fault: Mutex<Option<String>>,
}

impl Ledger {
    fn blame(&self, text: String) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    fn done(&self) -> std::sync::MutexGuard<'_, Vec<Message>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A15: sixteen keys of a hundred messages on eight lanes, handlers of any length, one key's head failing twice:
/// order per key holds, no key runs twice at once, and the failing key delays no other.
pub(crate) async fn order_per_key_under_concurrency(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut spec = bench.spec("reader", &topic)?;
    (spec.ordered, spec.lanes) = (true, 8);
    let consumer = bench.consumer(&spec).await?;
    let sent: Vec<Message> = (0..1_600).map(|i| keyed(&topic, &format!("key-{}", i % 16), i.to_string())).collect();
    bench.publish(&sent).await?;
    let ledger = Arc::new(Ledger { open: Mutex::default(), done: Mutex::default(), fault: Mutex::default() });
    let mut lanes = JoinSet::new();
    for lane in 0..8 {
        lanes.spawn(work(lane, consumer.clone(), sent[0].id().clone(), bench.long(), ledger.clone()));
    }
    let all = async {
        while ledger.done().len() < sent.len() && ledger.fault.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("1,600 messages", 6 * bench.patience(), all).await?;
    lanes.shutdown().await;
    if let Some(fault) = ledger.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Fault(fault));
    }
    let done = ledger.done();
    in_order(&sent, done.iter())?;
    // On the wall clock a slow machine may take longer for the others than the retry waits.
    if bench.backend.clock() == Clock::Paused {
        let head = done.iter().position(|message| message.id() == sent[0].id()).ok_or("the failing head was never handled")?;
        ensure!(head == 1_500, "{} messages of other keys waited for the failing key", 1_500 - head);
    }
    Ok(())
}

/// One lane of A15: handles for a while, fails `head` twice.
async fn work(lane: u32, consumer: Arc<dyn Consumer>, head: Id, delay: Duration, ledger: Arc<Ledger>) {
    let mut chance = u64::from(lane) + 1;
    while let Ok(deliveries) = consumer.receive(lane, 4, Vec::new()).await {
        for delivery in deliveries {
            let key = delivery.message.key().unwrap_or_default().to_owned();
            if !ledger.open().insert(key.clone()) {
                ledger.blame(format!("two messages of {key} were handed out at once"));
            }
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tokio::time::sleep(Duration::from_micros(chance >> 53)).await;
            let verdict = if *delivery.message.id() == head && delivery.attempt <= 2 {
                retry_after(delivery.attempt, delay)
            } else {
                ledger.done().push(delivery.message.clone());
                Verdict::Ack
            };
            ledger.open().remove(&key);
            let settled = consumer.settle(vec![Settlement { delivery, verdict }]).await;
            if !settled.lost.is_empty() || !settled.failed.is_empty() {
                ledger.blame(format!("a settlement was not carried out: {settled:?}"));
            }
        }
    }
}

/// A16: one publisher, one consumer, a thousand messages: no inversion, though nobody asked for order.
pub(crate) async fn order_of_one_publisher(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let sent = numbered(&topic, 1_000);
    let (publishing, got) = tokio::join!(
        async {
            bench.publish_singly(&sent[..500]).await?;
            for some in sent[500..].chunks(50) {
                bench.publish(some).await?;
            }
            Ok::<(), Fault>(())
        },
        bench.read(&*consumer, sent.len(), bench.patience())
    );
    publishing?;
    let inversions = sent.iter().zip(&got?).filter(|(sent, got)| sent.id() != got.id()).count();
    ensure!(inversions == 0, "{inversions} messages came at another place than they were published");
    Ok(())
}

/// S12: while the head of a key waits for its retry nothing of that key is handed out, everything else is; and a
/// dead letter of the head lets the key go on.
pub(crate) async fn order_waits_for_retry(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut spec = bench.spec("reader", &topic)?;
    spec.ordered = true;
    let consumer = bench.consumer(&spec).await?;
    let slow = [keyed(&topic, "slow", "1"), keyed(&topic, "slow", "2")];
    let free = [keyed(&topic, "free", "1"), keyed(&topic, "free", "2"), numbered(&topic, 1).remove(0), numbered(&topic, 1).remove(0)];
    bench.publish(&slow[..1]).await?;
    let head = bench.take_one(&*consumer).await?;
    bench.publish(&slow[1..]).await?;
    bench.publish(&free).await?;
    bench.settle(&*consumer, head, retry_after(1, bench.long())).await?;
    let others = bench.read(&*consumer, free.len(), bench.patience()).await?;
    crate::conformance::bench::same_sets(free.iter().map(Message::id), others.iter().map(Got::id))?;
    let head = within("the retry", bench.patience() + bench.long(), consumer.receive(0, 2, Vec::new())).await??.remove(0);
    ensure!(head.message.id() == slow[0].id(), "the key went on without its head");
    bench.settle(&*consumer, head, crate::conformance::bench::give_up(2, "enough")).await?;
    bench.read_exactly(&*consumer, &slow[1..]).await.map(drop)
}
