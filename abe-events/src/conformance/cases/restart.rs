//! What a broker has stored is there when its storage is opened again.

use crate::Message;
use crate::conformance::bench::{Bench, Check, Got, ensure, give_up, numbered, retry_after, same_sets};

/// S14: the broker ends and its storage is opened again: what was acked is gone, what waited, was under way or failed is
/// there, with its attempts and its dead letters; and what is published before anyone listens waits as before.
pub(crate) async fn survives_a_restart(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.leased("reader", &topic)?;
    let consumer = bench.consumer(&spec).await?;
    let mut sent = numbered(&topic, 20);
    bench.publish(&sent).await?;
    let acked = bench.hold(&*consumer, 5).await?;
    bench.ack(&*consumer, acked).await?;
    let dead = bench.take_one(&*consumer).await?;
    let dead_id = dead.message.id().clone();
    bench.settle(&*consumer, dead, give_up(1, "enough")).await?;
    let failed = bench.take_one(&*consumer).await?;
    let failed_id = failed.message.id().clone();
    bench.settle(&*consumer, failed, retry_after(1, bench.long())).await?;
    let under_way: Vec<_> = bench.hold(&*consumer, 3).await?.iter().map(|delivery| delivery.message.id().clone()).collect();

    let bench = bench.reopened().await?;
    let late = numbered(&topic, 2);
    bench.publish(&late).await?;
    sent.extend(late);
    let consumer = bench.consumer(&spec).await?;
    // What was acked and what is dead are the first six, in publish order.
    let due = &sent[6..];
    let got = bench.read(&*consumer, due.len(), bench.backend.lease() + bench.long() + bench.patience()).await?;
    same_sets(due.iter().map(Message::id), got.iter().map(Got::id))?;
    for got in &got {
        let attempt = if got.id() == &failed_id || under_way.contains(got.id()) { 2 } else { 1 };
        ensure!(got.attempt == attempt, "after the restart {} came as attempt {} instead of {attempt}", got.id(), got.attempt);
    }
    bench.nothing_comes(&*consumer).await?;
    let letters = bench.broker.dead_letters().list(&Default::default()).await?;
    same_sets([&dead_id], letters.iter().map(|letter| letter.message.id()))
}
