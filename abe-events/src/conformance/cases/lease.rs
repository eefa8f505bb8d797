//! Who may settle: leases that end, are renewed, and are lost; and what a dead consumer leaves behind.

use crate::Message;
use crate::broker::{Settlement, Verdict};
use tokio::time::Instant;

use crate::conformance::bench::{Bench, Check, Got, ensure, give_up, numbered, retry_now, same_ids, within};

/// A2: of fifty the first is acked, the second outlives its lease: all forty-nine come, the second as attempt 2.
pub(crate) async fn ack_part_then_lease_ends(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.leased("reader", &topic)?).await?;
    let sent = numbered(&topic, 50);
    bench.publish(&sent).await?;
    let first = bench.take_one(&*consumer).await?;
    bench.ack(&*consumer, vec![first]).await?;
    let outlived = bench.take_one(&*consumer).await?;
    let began = Instant::now();
    let got = bench.read(&*consumer, 49, bench.backend.lease() + bench.patience()).await?;
    same_ids(&sent[1..], &got)?;
    ensure!(began.elapsed() >= bench.backend.lease() / 2, "a delivery was handed out again long before its lease ended");
    for got in &got {
        let attempt = if got.id() == outlived.message.id() { 2 } else { 1 };
        ensure!(got.attempt == attempt, "{} came as attempt {} instead of {attempt}", got.id(), got.attempt);
    }
    bench.nothing_comes(&*consumer).await
}

/// A3: the consumer dies with one acked and some under way: the next gets at least the other forty-nine, and at most the
/// acked one again.
pub(crate) async fn ack_part_then_die(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.leased("reader", &topic)?;
    let consumer = bench.consumer(&spec).await?;
    let sent = numbered(&topic, 50);
    bench.publish(&sent).await?;
    let first = bench.take_one(&*consumer).await?;
    bench.ack(&*consumer, vec![first]).await?;
    let under_way = bench.hold(&*consumer, 8).await?;
    drop(under_way);
    drop(consumer);
    let next = bench.consumer(&spec).await?;
    let got = bench.read(&*next, 49, bench.backend.lease() + bench.patience()).await?;
    let missing = sent[1..].iter().filter(|sent| !got.iter().any(|got| got.id() == sent.id())).count();
    ensure!(missing <= usize::from(got.iter().any(|got| got.id() == sent[0].id())), "{missing} messages died with their consumer");
    if missing == 1 {
        bench.read(&*next, 1, bench.patience()).await?;
    }
    Ok(())
}

/// A27: a delivery held for three leases is not handed out again while it is renewed.
pub(crate) async fn lease_renewal(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.leased("reader", &topic)?).await?;
    bench.publish(&numbered(&topic, 1)).await?;
    let held = bench.take_one(&*consumer).await?;
    let tokens = [held.token];
    for _ in 0..12 {
        bench.nothing_comes_for(&*consumer, bench.backend.lease() / 4).await?;
        let lost = within("renew", bench.patience(), consumer.renew(&tokens)).await??;
        ensure!(lost.is_empty(), "a renewed lease was lost");
    }
    bench.ack(&*consumer, vec![held]).await?;
    bench.nothing_comes_for(&*consumer, 2 * bench.backend.lease()).await
}

/// A28: whoever lost its lease cannot settle any more, whatever the verdict; the delivery that stands is untouched.
pub(crate) async fn stale_settlement(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.leased("reader", &topic)?).await?;
    let sent: Vec<Message> = numbered(&topic, 4);
    bench.publish(&sent).await?;
    let stale = bench.hold(&*consumer, 4).await?;
    let tokens: Vec<_> = stale.iter().map(|delivery| delivery.token).collect();
    let mut current = Vec::new();
    while current.len() < 4 {
        let again = within("the next delivery", bench.backend.lease() + bench.patience(), consumer.receive(0, 4, Vec::new())).await??;
        current.extend(again);
    }
    same_ids(&sent, &current.iter().map(Got::of).collect::<Vec<_>>())?;
    ensure!(current.iter().all(|delivery| delivery.attempt == 2), "a lost lease is an attempt");
    let lost = within("renew", bench.patience(), consumer.renew(&tokens)).await??;
    ensure!(lost.len() == 4, "renew reported {} of 4 lost leases", lost.len());

    let verdicts = [Verdict::Ack, retry_now(1), give_up(1, "stale"), Verdict::Release { after: std::time::Duration::ZERO }];
    let settlements = stale.into_iter().zip(verdicts).map(|(delivery, verdict)| Settlement { delivery, verdict }).collect();
    let settled = within("settle", bench.patience(), consumer.settle(settlements)).await?;
    ensure!(settled.lost.len() == 4, "{} of 4 stale settlements were reported lost", settled.lost.len());
    ensure!(settled.failed.is_empty(), "a stale settlement is lost, not failed: {:?}", settled.failed);
    // Shorter than the lease of the deliveries that stand.
    bench.nothing_comes_for(&*consumer, bench.silence().min(bench.backend.lease() / 4)).await?;
    let dead = within("dead letters", bench.patience(), bench.broker.dead_letters().count()).await??;
    ensure!(dead == 0, "a stale settlement made a dead letter");
    bench.ack(&*consumer, current).await?;
    bench.nothing_comes_for(&*consumer, 2 * bench.backend.lease()).await
}
