//! Whoever goes away takes nothing along: closing, cancelling, and what is refused afterwards.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::broker::{Answer, Settlement, Verdict};
use crate::{ErrorKind, Message};

use crate::conformance::bench::{Bench, Check, Fault, Got, ensure, is_kind, message, numbered, same_sets, single, within};

/// 6: readers come, read a part, and close, twice each; in the end nothing is missing.
pub(crate) async fn continue_after_close(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    bench.declare(&spec).await?;
    let sent = numbered(&topic, bench.sized(50, 5_000));
    bench.publish_at_once(&sent, 50).await?;
    let parts = bench.sized(2, 5);
    let mut got: Vec<Got> = Vec::new();
    for _ in 0..4 * parts {
        let missing = sent.len() - got.len();
        let share = (sent.len() / (2 * parts)).min(missing);
        if share == 0 {
            break;
        }
        let consumer = bench.consumer(&spec).await?;
        // Exactly `share`, so that every round closes while more is waiting.
        let end = got.len() + share;
        while got.len() < end {
            let deliveries = bench.take(&*consumer, 32.min(end - got.len())).await?;
            got.extend(deliveries.iter().map(Got::of));
            bench.ack(&*consumer, deliveries).await?;
        }
        bench.close(&*consumer).await?;
        bench.close(&*consumer).await?;
    }
    let consumer = bench.consumer(&spec).await?;
    got.append(&mut bench.read(&*consumer, sent.len() - got.len(), bench.patience()).await?);
    bench.nothing_comes(&*consumer).await?;
    same_sets(sent.iter().map(Message::id), got.iter().map(Got::id))
}

/// 7: ten consumers open and close at once; the subscription is none the worse.
pub(crate) async fn concurrent_close(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    bench.declare(&spec).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (broker, spec) = (bench.broker.clone(), spec.clone());
        tasks.spawn(async move {
            let consumer = broker.subscribe(&spec).await.map_err(|error| error.to_string())?;
            let (first, second) = tokio::join!(consumer.close(), consumer.close());
            first.and(second).map_err(|error| error.to_string())
        });
    }
    let all = within("ten closes", bench.patience(), tasks.join_all()).await?;
    all.into_iter().collect::<Result<Vec<()>, String>>()?;
    let sent = numbered(&topic, 50);
    bench.publish_singly(&sent).await?;
    let consumer = bench.consumer(&spec).await?;
    bench.read_exactly(&*consumer, &sent).await.map(drop)
}

/// 12: a delivery ends with its ack, or with its consumer: after a close from elsewhere a waiting receive ends, and a late
/// settlement changes nothing.
pub(crate) async fn delivery_ends_with_its_consumer(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.leased("reader", &topic)?;
    let consumer = bench.consumer(&spec).await?;
    let sent = [message(&topic, "first"), message(&topic, "second")];
    bench.publish(&sent).await?;
    let first = bench.take_one(&*consumer).await?;
    bench.ack(&*consumer, vec![first]).await?;
    let second = bench.take_one(&*consumer).await?;
    ensure!(second.message.id() == sent[1].id(), "{} came instead of the second message", second.message.id());

    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive(0, 1, Vec::new()).await }
    });
    tokio::task::yield_now().await;
    bench.close(&*consumer).await?;
    let ended = within("the end of a waiting receive", bench.patience(), waiting).await??;
    is_kind("a receive that waits during close", ended, ErrorKind::Closed)?;
    let late = vec![Settlement { delivery: second, verdict: Verdict::Ack }];
    let settled = within("settle after close", bench.patience(), consumer.settle(late)).await?;
    ensure!(settled.lost.len() + settled.failed.len() == 1, "a settlement after close must be reported as not carried out: {settled:?}");

    let next = bench.consumer(&spec).await?;
    bench.read_exactly(&*next, &sent[1..]).await.map(drop)
}

/// 13: a receive that is dropped while it waits takes no message along.
pub(crate) async fn cancelled_receive(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    let consumer = bench.consumer(&spec).await?;
    let sent = numbered(&topic, 24);
    for (turn, message) in sent.iter().enumerate() {
        let mut waiting = consumer.receive(0, 4, Vec::new());
        // Dropped while it waits, or at any step of taking the message.
        let mut received = ask(&mut waiting, 1 + turn % 3).await;
        bench.publish(std::slice::from_ref(message)).await?;
        if received.is_none() {
            received = ask(&mut waiting, turn / 3 % 5).await;
        }
        drop(waiting);
        for delivery in received.transpose()?.unwrap_or_default() {
            bench.settle(&*consumer, delivery, Verdict::Release { after: Duration::ZERO }).await?;
        }
    }
    // No lease is waited for: what was dropped is there at once.
    let short = bench.backend.lease() / 2;
    let got = bench.read(&*consumer, sent.len(), short.min(bench.patience())).await?;
    same_sets(sent.iter().map(Message::id), got.iter().map(Got::id))?;
    ensure!(got.iter().all(|got| got.attempt == 1), "a dropped receive was counted as an attempt");
    bench.close(&*consumer).await?;
    let next = bench.consumer(&spec).await?;
    bench.nothing_comes(&*next).await
}

/// Polls an answer so many times, letting others run in between.
async fn ask<T>(answer: &mut Answer<'_, T>, times: usize) -> Option<T> {
    for _ in 0..times {
        if let Poll::Ready(value) = poll_fn(|cx| Poll::Ready(Pin::new(&mut *answer).poll(cx))).await {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// A1: of fifty one is acked and one is under way when the consumer closes: the next gets exactly the other forty-nine.
pub(crate) async fn ack_part_then_close(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.leased("reader", &topic)?;
    let consumer = bench.consumer(&spec).await?;
    let sent = numbered(&topic, 50);
    bench.publish(&sent).await?;
    let acked = bench.take_one(&*consumer).await?;
    let acked_id = acked.message.id().clone();
    bench.ack(&*consumer, vec![acked]).await?;
    let under_way = bench.take_one(&*consumer).await?;
    let under_way_id = under_way.message.id().clone();
    bench.close(&*consumer).await?;
    drop(under_way);
    let next = bench.consumer(&spec).await?;
    let rest: Vec<Message> = sent.into_iter().filter(|message| *message.id() != acked_id).collect();
    for got in bench.read_exactly(&*next, &rest).await? {
        // The handler of the one that was under way may have run; those that were never handed out have no attempt.
        let expected = if *got.id() == under_way_id { 2 } else { 1 };
        ensure!(got.attempt == expected, "{} came as attempt {} instead of {expected}", got.id(), got.attempt);
    }
    Ok(())
}

/// A11: after close everything is refused, and closing again, at once or later, succeeds.
pub(crate) async fn after_close(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    let consumer = bench.consumer(&spec).await?;
    bench.publish(&numbered(&topic, 3)).await?;
    let both = async { tokio::join!(bench.broker.close(), bench.broker.close()) };
    let (first, second) = within("two closes at once", bench.patience(), both).await?;
    first.and(second)?;
    within("a third close", bench.patience(), bench.broker.close()).await??;

    let published = within("publish after close", bench.patience(), bench.broker.publish(single(message(&topic, "late")))).await?;
    is_kind("publish after close", published.map_err(|failure| failure.error), ErrorKind::Closed)?;
    let subscribed = within("subscribe after close", bench.patience(), bench.broker.subscribe(&spec)).await?;
    is_kind("subscribe after close", subscribed, ErrorKind::Closed)?;
    let received = within("receive after close", bench.patience(), consumer.receive(0, 1, Vec::new())).await?;
    is_kind("receive after close", received, ErrorKind::Closed)?;
    let dead = within("dead letters after close", bench.patience(), bench.broker.dead_letters().count()).await?;
    is_kind("dead letters after close", dead, ErrorKind::Closed)?;
    within("close of a consumer after close", bench.patience(), consumer.close()).await?.map_err(Fault::from)
}
