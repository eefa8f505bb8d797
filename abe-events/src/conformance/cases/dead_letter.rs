//! What failed for good: kept whole, found, handed back, thrown away, and never lost on the way there.

use crate::Message;
use crate::broker::{DeadLetterFilter, Settlement};

use crate::conformance::Outcome;
use crate::conformance::bench::{Bench, Check, Fault, ensure, give_up, numbered, retry_now, same_sets, within};

/// A8: if the dead letter cannot be stored, the message stays with its subscription.
pub(crate) async fn dead_letter_refused(bench: &Bench) -> Check<Outcome> {
    let Some(bench) = bench.without_dead_letters().await? else {
        return Ok(Outcome::NotApplicable("the backend has no broker that cannot store dead letters"));
    };
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let sent = numbered(&topic, 1);
    bench.publish(&sent).await?;
    let delivery = bench.take_one(&*consumer).await?;
    let settlement = vec![Settlement { delivery, verdict: give_up(1, "enough") }];
    let mut settled = within("settle", bench.patience(), consumer.settle(settlement)).await?;
    ensure!(settled.lost.is_empty(), "the lease was not lost");
    let (settlement, error) =
        settled.failed.pop().ok_or_else(|| Fault::from("the dead letter cannot have been stored, yet it is settled"))?;
    ensure!(settlement.delivery.message.id() == sent[0].id(), "another settlement came back");
    ensure!(error.is_retryable(), "a dead letter may be stored later: {error:?} must be retryable");
    // Still the caller's to settle.
    bench.settle(&*consumer, settlement.delivery, retry_now(1)).await?;
    bench.read_exactly(&*consumer, &sent).await?;
    Ok(Outcome::Pass)
}

/// S4: a dead letter holds the message, its subscription, how often it was tried, and every failure, oldest first.
pub(crate) async fn dead_letter_kept_whole(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    let consumer = bench.consumer(&spec).await?;
    let sent = numbered(&topic, 1);
    bench.publish(&sent).await?;
    for attempt in 1..=3 {
        let delivery = bench.take_one(&*consumer).await?;
        let verdict = if attempt < 3 { retry_now(attempt) } else { give_up(attempt, "the last straw") };
        bench.settle(&*consumer, delivery, verdict).await?;
    }
    bench.nothing_comes(&*consumer).await?;
    let store = bench.broker.dead_letters();
    ensure!(store.count().await? == 1, "one message failed for good, {} dead letters are counted", store.count().await?);
    let mut letters = store.list(&DeadLetterFilter { id: Some(sent[0].id().clone()), ..Default::default() }).await?;
    let letter = letters.pop().ok_or("the dead letter is not found by its id")?;
    ensure!(letter.message.id() == sent[0].id() && letter.message.topic() == &topic, "another message: {letter:?}");
    ensure!(letter.message.payload().to_bytes()? == sent[0].payload().to_bytes()?, "its payload changed");
    ensure!(letter.group == spec.group && letter.subscription == spec.name, "of {}/{}", letter.group, letter.subscription);
    ensure!(letter.attempts == 3, "3 attempts were started, the dead letter says {}", letter.attempts);
    ensure!(letter.reason() == "the last straw", "its reason is {:?}", letter.reason());
    let texts: Vec<&str> = letter.failures.iter().map(|failure| failure.text.as_str()).collect();
    ensure!(texts == ["told to fail", "told to fail", "the last straw"], "its failures are {texts:?}");
    Ok(())
}

/// Two subscriptions of one topic, all messages dead in both.
async fn all_dead(bench: &Bench, n: usize) -> Check<([std::sync::Arc<dyn crate::broker::Consumer>; 2], [crate::Name; 2], Vec<Message>)> {
    let topic = bench.topic("orders")?;
    let specs = [bench.spec("left", &topic)?, bench.spec("right", &topic)?];
    let consumers = [bench.consumer(&specs[0]).await?, bench.consumer(&specs[1]).await?];
    let sent = numbered(&topic, n);
    bench.publish(&sent).await?;
    for consumer in &consumers {
        let held = bench.hold(&**consumer, n).await?;
        let settlements = held.into_iter().map(|delivery| Settlement { delivery, verdict: give_up(1, "enough") }).collect();
        bench.settle_all(&**consumer, settlements).await?;
    }
    Ok((consumers, specs.map(|spec| spec.name), sent))
}

/// S5: a replay hands dead letters back to their own subscription only, oldest first, with the same id and a fresh count.
pub(crate) async fn dead_letter_replayed(bench: &Bench) -> Check {
    let ([left, right], [left_name, _], sent) = all_dead(bench, 3).await?;
    let store = bench.broker.dead_letters();
    ensure!(store.count().await? == 6, "one per subscription and message are 6 dead letters, not {}", store.count().await?);
    let first = DeadLetterFilter { subscription: Some(left_name.clone()), limit: 1, ..Default::default() };
    ensure!(store.replay(&first).await? == 1, "one dead letter was to be replayed");
    let got = bench.read_exactly(&*left, &sent[..1]).await?;
    ensure!(got[0].attempt == 1, "a replayed message begins with attempt 1, not {}", got[0].attempt);
    let rest = DeadLetterFilter { subscription: Some(left_name), ..Default::default() };
    ensure!(store.replay(&rest).await? == 2, "two dead letters were to be replayed");
    bench.read_exactly(&*left, &sent[1..]).await?;
    bench.nothing_comes(&*right).await?;
    ensure!(store.count().await? == 3, "the other subscription's 3 dead letters stay, {} are counted", store.count().await?);
    ensure!(store.replay(&rest).await? == 0, "a replay of nothing hands back nothing");
    Ok(())
}

/// S6: a purge throws away exactly those meant.
pub(crate) async fn dead_letter_purged(bench: &Bench) -> Check {
    let ([left, right], [left_name, right_name], sent) = all_dead(bench, 3).await?;
    let store = bench.broker.dead_letters();
    let one = DeadLetterFilter { subscription: Some(left_name), id: Some(sent[1].id().clone()), ..Default::default() };
    ensure!(store.purge(&one).await? == 1, "one dead letter was to be purged");
    ensure!(store.list(&one).await?.is_empty(), "it is still there");
    let right_only = DeadLetterFilter { subscription: Some(right_name), ..Default::default() };
    let kept = store.list(&right_only).await?;
    same_sets(sent.iter().map(Message::id), kept.iter().map(|letter| letter.message.id()))?;
    let elsewhere = DeadLetterFilter { topic: Some("another.topic".to_owned()), ..Default::default() };
    ensure!(store.purge(&elsewhere).await? == 0, "a purge of another topic purged");
    let topic = DeadLetterFilter { topic: Some(sent[0].topic().to_string()), ..Default::default() };
    ensure!(store.purge(&topic).await? == 5 && store.count().await? == 0, "{} dead letters are left", store.count().await?);
    bench.nothing_comes(&*left).await?;
    bench.nothing_comes(&*right).await
}
