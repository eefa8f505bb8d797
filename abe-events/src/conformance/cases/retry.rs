//! What fails comes back: not before its time, with its attempt counted, and nothing else with it.

use std::time::Duration;

use crate::broker::{Delivery, Messages, Outgoing, Settlement, Verdict};
use crate::{Id, Message};
use tokio::time::Instant;

use crate::conformance::bench::{Bench, Check, Fault, Got, ensure, give_up, numbered, retry_after, retry_now, same_sets, within};

/// 4: the first two deliveries fail; they come back, and with them all hundred are seen.
pub(crate) async fn resend_on_error(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let sent = numbered(&topic, 100);
    bench.publish_singly(&sent).await?;
    let mut failed = Vec::new();
    for _ in 0..2 {
        let delivery = bench.take_one(&*consumer).await?;
        failed.push(delivery.message.id().clone());
        bench.settle(&*consumer, delivery, retry_now(1)).await?;
    }
    for got in bench.read_exactly(&*consumer, &sent).await? {
        let attempts = 1 + u32::try_from(failed.iter().filter(|id| *id == got.id()).count())?;
        ensure!(got.attempt == attempts, "{} came as attempt {} instead of {attempts}", got.id(), got.attempt);
    }
    Ok(())
}

/// 8: consumers that fail everything and go away leave everything to the next.
pub(crate) async fn continue_after_errors(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    bench.declare(&spec).await?;
    let sent = numbered(&topic, 50);
    bench.publish_singly(&sent).await?;
    for _ in 0..bench.sized(1, 3) {
        let consumer = bench.consumer(&spec).await?;
        for _ in 0..bench.sized(5, 100) {
            let delivery = bench.take_one(&*consumer).await?;
            let attempt = delivery.attempt;
            bench.settle(&*consumer, delivery, retry_now(attempt)).await?;
        }
        bench.close(&*consumer).await?;
    }
    let consumer = bench.consumer(&spec).await?;
    bench.read_exactly(&*consumer, &sent).await.map(drop)
}

/// A4: one call settles ten deliveries in three ways; each set ends exactly as it was told.
pub(crate) async fn partial_batch(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let sent = numbered(&topic, 10);
    bench.publish(&sent).await?;
    let mut held = bench.hold(&*consumer, 10).await?;
    let reject = held.split_off(6);
    let again = held.split_off(3);
    let ids = |deliveries: &[Delivery]| deliveries.iter().map(|delivery| delivery.message.id().clone()).collect::<Vec<Id>>();
    let (again_ids, reject_ids) = (ids(&again), ids(&reject));
    let mut settlements: Vec<Settlement> = Vec::new();
    settlements.extend(again.into_iter().map(|delivery| Settlement { delivery, verdict: retry_now(1) }));
    settlements.extend(held.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }));
    settlements.extend(reject.into_iter().map(|delivery| Settlement { delivery, verdict: give_up(1, "rejected") }));
    bench.settle_all(&*consumer, settlements).await?;

    let returned = bench.read(&*consumer, 3, bench.patience()).await?;
    same_sets(&again_ids, returned.iter().map(Got::id))?;
    ensure!(returned.iter().all(|got| got.attempt == 2), "the second attempt is not counted as such");
    bench.nothing_comes(&*consumer).await?;
    let letters = bench.broker.dead_letters().list(&Default::default()).await?;
    same_sets(&reject_ids, letters.iter().map(|letter| letter.message.id()))
}

/// A5: a retry is never early, late by no more than declared, and holds up nobody else where order is not asked for.
pub(crate) async fn retry_delay(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    // Long enough for a loaded machine to hand out the others meanwhile.
    let delay = 8 * bench.long();
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let sent = numbered(&topic, 10);
    bench.publish(&sent).await?;
    let delivery = bench.take_one(&*consumer).await?;
    let failed = delivery.message.id().clone();
    let began = Instant::now();
    bench.settle(&*consumer, delivery, retry_after(1, delay)).await?;
    let others = bench.read(&*consumer, 9, bench.patience()).await?;
    ensure!(others.iter().all(|got| got.id() != &failed), "the retry came before the others");
    ensure!(began.elapsed() < delay, "the others waited for the retry");
    let again = comes_when_due(bench, began, delay, async {
        Ok(within("the retry", bench.patience() + delay, consumer.receive(0, 1, Vec::new())).await??)
    })
    .await?;
    ensure!(again.message.id() == &failed, "{} came instead of the retry", again.message.id());
    ensure!(again.attempt == 2, "the retry came as attempt {}", again.attempt);
    if let Some(failures) = &again.failures {
        ensure!(failures.len() == 1 && failures[0].text == "told to fail", "the failure is kept as {failures:?}");
    }
    bench.ack(&*consumer, vec![again]).await?;
    bench.nothing_comes(&*consumer).await
}

/// A delivery due `delay` after `began`: not before, and not later than declared.
async fn comes_when_due(
    bench: &Bench,
    began: Instant,
    delay: Duration,
    delivery: impl Future<Output = Check<Vec<Delivery>>>,
) -> Check<Delivery> {
    let delivery = delivery.await?.pop().ok_or_else(|| Fault::from("no delivery"))?;
    let (after, due) = (began.elapsed(), delay);
    ensure!(after >= due, "due after {due:?}, it came after {after:?}");
    ensure!(after <= due + bench.backend.lateness(), "due after {due:?}, it came only after {after:?}");
    Ok(delivery)
}

/// A6: the attempt counts 1, 2, 3 on successive deliveries.
pub(crate) async fn attempt_visible(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    bench.publish(&numbered(&topic, 1)).await?;
    for attempt in 1..=3 {
        let delivery = bench.take_one(&*consumer).await?;
        ensure!(delivery.attempt == attempt, "attempt {attempt} came as {}", delivery.attempt);
        bench.settle(&*consumer, delivery, retry_now(attempt)).await?;
    }
    Ok(())
}

/// S1: a delayed publish is never early, late by no more than declared, and holds up nobody else.
pub(crate) async fn delayed_publish(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let messages = numbered(&topic, 2);
    let began = Instant::now();
    publish_delayed(bench, &messages[..1], bench.long()).await?;
    publish_delayed(bench, &messages[1..], Duration::ZERO).await?;
    let first = bench.take_one(&*consumer).await?;
    ensure!(first.message.id() == messages[1].id(), "the delayed message came first");
    bench.ack(&*consumer, vec![first]).await?;
    let late = comes_when_due(bench, began, bench.long(), async {
        Ok(within("the delayed message", bench.patience() + bench.long(), consumer.receive(0, 1, Vec::new())).await??)
    })
    .await?;
    ensure!(late.message.id() == messages[0].id() && late.attempt == 1, "attempt {} of {}", late.attempt, late.message.id());
    bench.ack(&*consumer, vec![late]).await
}

async fn publish_delayed(bench: &Bench, messages: &[Message], delay: Duration) -> Check {
    let outgoing = Outgoing { messages: Messages::Many(messages.to_vec()), delay, origin: None };
    within("publish", bench.patience(), bench.broker.publish(outgoing)).await??;
    Ok(())
}

/// S2: a release is no attempt, and not before its time.
pub(crate) async fn release_is_no_attempt(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    bench.publish(&numbered(&topic, 1)).await?;
    for _ in 0..3 {
        let delivery = bench.take_one(&*consumer).await?;
        ensure!(delivery.attempt == 1, "a release was counted as an attempt: {}", delivery.attempt);
        bench.settle(&*consumer, delivery, Verdict::Release { after: Duration::ZERO }).await?;
    }
    let delivery = bench.take_one(&*consumer).await?;
    let began = Instant::now();
    bench.settle(&*consumer, delivery, Verdict::Release { after: bench.long() }).await?;
    let again = comes_when_due(bench, began, bench.long(), async {
        Ok(within("the released message", bench.patience() + bench.long(), consumer.receive(0, 1, Vec::new())).await??)
    })
    .await?;
    ensure!(again.attempt == 1, "a release was counted as an attempt: {}", again.attempt);
    bench.settle(&*consumer, again, retry_now(1)).await?;
    let second = bench.take_one(&*consumer).await?;
    ensure!(second.attempt == 2, "after one failure and four releases the attempt is 2, not {}", second.attempt);
    bench.ack(&*consumer, vec![second]).await
}
