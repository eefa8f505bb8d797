//! Several subscriptions: each gets everything from its start on, and none feels another.

use crate::broker::{StartPosition, SubscriptionSpec};
use crate::{ErrorKind, Message, Name, TopicPattern};

use crate::conformance::bench::{Bench, Check, Got, ensure, give_up, is_kind, message, numbered, retry_now, same_ids, within};

/// 14: who starts at the earliest message gets what was published before it came.
pub(crate) async fn new_subscriber_receives_old_messages(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut published = numbered(&topic, 1);
    bench.publish(&published).await?;
    let mut readers: Vec<(std::sync::Arc<dyn crate::broker::Consumer>, usize)> = Vec::new();
    for round in 0..3 {
        let next = numbered(&topic, 1);
        bench.publish(&next).await?;
        published.extend(next);
        let mut spec = bench.spec(&format!("reader-{round}"), &topic)?;
        spec.start = StartPosition::Earliest;
        readers.push((bench.consumer(&spec).await?, 0));
        for (reader, seen) in &mut readers {
            let unread = &published[*seen..];
            bench.read_exactly(&**reader, unread).await?;
            *seen = published.len();
        }
    }
    Ok(())
}

/// 16: two groups, one handler name: each group gets everything.
pub(crate) async fn consumer_groups(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let specs = [bench.spec_in_group("billing", "reader", &topic)?, bench.spec_in_group("shipping", "reader", &topic)?];
    for spec in &specs {
        bench.declare(spec).await?;
    }
    let sent = numbered(&topic, 50);
    bench.publish_singly(&sent).await?;
    for spec in &specs {
        let consumer = bench.consumer(spec).await?;
        bench.read_exactly(&*consumer, &sent).await?;
    }
    Ok(())
}

/// A26: a new subscription starts where it was told; a start the broker does not offer is refused.
pub(crate) async fn start_position(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let old = numbered(&topic, 3);
    // Somebody must hold the old messages, or there is nothing to start from.
    bench.declare(&bench.spec("keeper", &topic)?).await?;
    bench.publish(&old).await?;
    for (start, name) in [(StartPosition::Latest, "latest"), (StartPosition::Earliest, "earliest")] {
        let mut spec = bench.spec(name, &topic)?;
        spec.start = start;
        if !bench.broker.capabilities().start.contains(&start) {
            let refused = within("subscribe", bench.patience(), bench.broker.subscribe(&spec)).await?;
            is_kind("a start position that is not offered", refused, ErrorKind::Unsupported)?;
            continue;
        }
        let consumer = bench.consumer(&spec).await?;
        let new = numbered(&topic, 1);
        bench.publish(&new).await?;
        let got = bench.read(&*consumer, if start == StartPosition::Earliest { old.len() + 1 } else { 1 }, bench.patience()).await?;
        ensure!(got.iter().any(|got| got.id() == new[0].id()), "{name}: the new message did not come");
        bench.nothing_comes(&*consumer).await?;
    }
    Ok(())
}

/// S15: a subscription that asks for what the broker does not declare is refused, and one that does not is taken.
pub(crate) async fn undeclared_is_refused(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let capabilities = bench.broker.capabilities();
    let plain = bench.spec("plain", &topic)?;
    let mut asks = Vec::new();
    if !capabilities.ordered {
        asks.push(("order per key", SubscriptionSpec { ordered: true, ..plain.clone() }));
    }
    if !capabilities.leases_optional {
        asks.push(("a subscription without a lease", SubscriptionSpec { lease: None, ..plain.clone() }));
    }
    if !capabilities.wildcards {
        asks.push(("a wildcard", SubscriptionSpec { topics: vec![TopicPattern::new(">")?], ..plain.clone() }));
    }
    for (what, spec) in asks {
        let refused = within("subscribe", bench.patience(), bench.broker.subscribe(&spec)).await?;
        is_kind(what, refused, ErrorKind::Unsupported)?;
    }
    bench.consumer(&plain).await.map(drop)
}

/// A30: one group holds a message and takes nothing more; another reads a thousand meanwhile.
pub(crate) async fn slow_group(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut slow = bench.spec_in_group("slow", "reader", &topic)?;
    slow.unsettled_max = 1;
    slow.lease = Some(10 * (bench.backend.lease() + bench.patience()));
    let slow = bench.consumer(&slow).await?;
    let fast = bench.consumer(&bench.spec_in_group("fast", "reader", &topic)?).await?;
    let sent = numbered(&topic, 1_000);
    bench.publish(&sent[..1]).await?;
    let held = bench.take_one(&*slow).await?;
    bench.publish_singly(&sent[1..]).await?;
    bench.read_exactly(&*fast, &sent).await?;
    bench.ack(&*slow, vec![held]).await?;
    // One at a time, as its bound says.
    for sent in &sent[1..=20] {
        let delivery = bench.take_one(&*slow).await?;
        ensure!(delivery.message.id() == sent.id(), "the slow group missed a message");
        bench.ack(&*slow, vec![delivery]).await?;
    }
    Ok(())
}

/// S3: one subscription's retry and dead letter are not another's.
pub(crate) async fn fates_are_separate(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let left = bench.consumer(&bench.spec("left", &topic)?).await?;
    let right = bench.consumer(&bench.spec("right", &topic)?).await?;
    let sent = numbered(&topic, 2);
    let published = bench.publish(&sent).await?;
    ensure!(published.deliveries == 4, "2 messages for 2 subscriptions are 4 deliveries, not {}", published.deliveries);
    let first = bench.take_one(&*left).await?;
    bench.settle(&*left, first, give_up(1, "left only")).await?;
    let second = bench.take_one(&*left).await?;
    bench.settle(&*left, second, retry_now(1)).await?;
    for got in bench.read_exactly(&*right, &sent).await? {
        ensure!(got.attempt == 1, "the other subscription's failure was counted here");
    }
    let again = bench.read_exactly(&*left, &sent[1..]).await?;
    ensure!(again[0].attempt == 2, "the retry came as attempt {}", again[0].attempt);
    let letters = bench.broker.dead_letters().list(&Default::default()).await?;
    ensure!(letters.len() == 1, "one dead letter was made, there are {}", letters.len());
    Ok(())
}

/// S11: `*` is one segment, `>` is the rest, several patterns that match are still one delivery.
pub(crate) async fn wildcards_match(bench: &Bench) -> Check {
    let topics = [bench.topic("eu.created")?, bench.topic("us.created")?, bench.topic("eu.paid.late")?, bench.topic("done")?];
    let base = bench.topic("x")?.as_str().trim_end_matches(".x").to_owned();
    let expected: [(&str, &[&str], &[usize]); 3] =
        [("star", &["*.created"], &[0, 1]), ("rest", &[">"], &[0, 1, 2, 3]), ("both", &["eu.>", "eu.created", "*.created"], &[0, 1, 2])];
    let mut consumers = Vec::new();
    for (name, patterns, takes) in expected {
        let mut spec = bench.spec(name, &topics[0])?;
        spec.name = Name::new(&format!("{}-{name}", spec.name))?;
        spec.topics = patterns.iter().map(|pattern| TopicPattern::new(&format!("{base}.{pattern}"))).collect::<Result<_, _>>()?;
        consumers.push((bench.consumer(&spec).await?, takes));
    }
    let sent: Vec<Message> = topics.iter().map(|topic| message(topic, "x")).collect();
    bench.publish(&sent).await?;
    for (consumer, takes) in consumers {
        let want: Vec<Message> = takes.iter().map(|at| sent[*at].clone()).collect();
        let got: Vec<Got> = bench.read_exactly(&*consumer, &want).await?;
        same_ids(&want, &got)?;
        let held = consumer.depth().unsettled;
        ensure!(held == 0, "{held} deliveries are unsettled after all were acked");
    }
    Ok(())
}
