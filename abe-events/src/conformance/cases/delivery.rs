//! What is published arrives: all of it, once, whole.

use crate::broker::{Delivery, Settlement};
use crate::{ErrorKind, HEADER_COUNT_MAX, Headers};

use crate::conformance::bench::{Bench, Check, Fault, Got, ensure, give_up, is_kind, message, numbered, retry_now, same_ids, within};

/// 1: a hundred messages of one call, published before anyone listens, arrive once each, as they were.
pub(crate) async fn publish_subscribe(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    bench.declare(&spec).await?;
    let mut sent = Vec::new();
    for message in numbered(&topic, 100) {
        let mut headers = Headers::new();
        headers.insert("test", &format!("value of {}", message.id()))?;
        sent.push(message.with_headers(headers));
    }
    let published = bench.publish(&sent).await?;
    ensure!(published.deliveries == 100, "100 deliveries were stored, the broker counted {}", published.deliveries);

    let consumer = bench.consumer(&spec).await?;
    let got = bench.read_exactly(&*consumer, &sent).await?;
    for got in &got {
        let sent = sent.iter().find(|sent| sent.id() == got.id()).ok_or("phantom")?;
        ensure!(got.message.payload().to_bytes()? == sent.payload().to_bytes()?, "payload of {} changed", got.id());
        ensure!(got.message.headers() == sent.headers(), "headers of {} changed", got.id());
        ensure!(got.attempt == 1, "{} came as attempt {} though it never failed", got.id(), got.attempt);
    }
    bench.close(&*consumer).await?;
    within("close of the broker", bench.patience(), bench.broker.close()).await??;
    let after = within("the end of the stream", bench.patience(), consumer.receive(0, 1, Vec::new())).await?;
    is_kind("receive after close", after, ErrorKind::Closed)
}

/// 2: fifty publishers at once, fifty consumers at once: each message to exactly one of them.
pub(crate) async fn concurrent_subscribe(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    bench.declare(&spec).await?;
    let sent = numbered(&topic, bench.sized(100, 5_000));
    bench.publish_at_once(&sent, 50).await?;
    let consumers = if bench.broker.capabilities().competing_consumers { bench.sized(10, 50) } else { 1 };
    let mut readers = Vec::new();
    for _ in 0..consumers {
        readers.push((bench.consumer(&spec).await?, 0));
    }
    bench.read_together(readers, &sent).await.map(drop)
}

/// 3: many topics at once with the same ids in each: ids are told apart by subscription.
pub(crate) async fn concurrent_subscribe_multiple_topics(bench: &Bench) -> Check {
    let count = bench.sized(50, 100);
    let originals = numbered(&bench.topic("original")?, count);
    let one_topic = |number: usize| {
        let originals = &originals;
        async move {
            let topic = bench.topic(&format!("orders-{number}"))?;
            let spec = bench.spec(&format!("reader-{number}"), &topic)?;
            bench.declare(&spec).await?;
            let sent: Vec<_> =
                originals.iter().map(|original| message(&topic, number.to_string()).with_id(original.id().clone())).collect();
            bench.publish(&sent).await?;
            let consumer = bench.consumer(&spec).await?;
            let got = bench.read(&*consumer, count, bench.patience()).await?;
            same_ids(&sent, &got)?;
            for got in &got {
                ensure!(got.message.topic() == &topic, "{} of {} came from {}", got.id(), got.message.topic(), topic);
            }
            bench.nothing_comes(&*consumer).await
        }
    };
    let topics = bench.sized(10, 20);
    for done in futures_util::future::join_all((0..topics).map(one_topic)).await {
        done?;
    }
    Ok(())
}

/// 10: twenty publishers are done before the first consumer comes; nothing of theirs is missing.
pub(crate) async fn publisher_done(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let spec = bench.spec("reader", &topic)?;
    bench.declare(&spec).await?;
    let sent = numbered(&topic, bench.sized(100, 10_000));
    bench.publish_at_once(&sent, 20).await?;
    let consumer = bench.consumer(&spec).await?;
    bench.read_exactly(&*consumer, &sent).await.map(drop)
}

/// 11: two topics, two subscriptions, each gets its own.
pub(crate) async fn topic(bench: &Bench) -> Check {
    let (orders, bills) = (bench.topic("orders")?, bench.topic("bills")?);
    let order_reader = bench.consumer(&bench.spec("order-reader", &orders)?).await?;
    let bill_reader = bench.consumer(&bench.spec("bill-reader", &bills)?).await?;
    let (order, bill) = (message(&orders, "order"), message(&bills, "bill"));
    bench.publish(std::slice::from_ref(&order)).await?;
    bench.publish(std::slice::from_ref(&bill)).await?;
    bench.read_exactly(&*order_reader, &[order]).await?;
    bench.read_exactly(&*bill_reader, &[bill]).await.map(drop)
}

/// A10: a topic nobody ever published to can be subscribed to, or is refused, but never hangs; publishing to a topic
/// nobody subscribes to says that nobody got it.
pub(crate) async fn unknown_topic(bench: &Bench) -> Check {
    let topic = bench.topic("unheard-of")?;
    let published = bench.publish(&numbered(&topic, 1)).await?;
    ensure!(published.deliveries == 0, "nobody subscribes, but {} deliveries were counted", published.deliveries);
    let spec = bench.spec("reader", &topic)?;
    match within("subscribe to an unknown topic", bench.patience(), bench.broker.subscribe(&spec)).await? {
        Ok(consumer) => bench.nothing_comes(&*consumer).await,
        Err(error) => {
            ensure!(error.kind() == ErrorKind::Unsupported, "an unknown topic is refused as unsupported, not with {error:?}");
            Ok(())
        }
    }
}

/// A12: bytes and headers arrive as they were, on the first attempt, on the second, and in a dead letter.
pub(crate) async fn fidelity(bench: &Bench) -> Check {
    let topic = bench.topic("blobs")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let largest = bench.broker.capabilities().payload_bytes_max.min(1024 * 1024);
    let large: Vec<u8> = (0..largest).map(|i| u8::try_from(i % 251).unwrap_or_default()).collect();
    let payloads: Vec<Vec<u8>> = vec![Vec::new(), vec![0], (0..=255).collect(), large, vec![0xff, 0xfe, 0xc3, 0x28]];
    let mut sent: Vec<_> = payloads.into_iter().map(|payload| message(&topic, payload)).collect();
    let mut few = Headers::new();
    few.insert("empty", "")?;
    few.insert("text", "grüße, 世界 🦀 \"quoted\" = ; ,")?;
    sent.push(message(&topic, "few headers").with_headers(few).with_key(Some("ключ 1".into())));
    let mut many = Headers::new();
    for i in 0..HEADER_COUNT_MAX {
        many.insert(&format!("header-{i}"), &i.to_string())?;
    }
    sent.push(message(&topic, "many headers").with_headers(many));
    sent.push(message(&topic, "an id from elsewhere").with_id("github/delivery 72d3162e ✓".parse()?));
    bench.publish(&sent).await?;

    for attempt in 1..=2 {
        let held = bench.hold(&*consumer, sent.len()).await?;
        whole(&sent, &held, attempt)?;
        let verdict = |attempt| if attempt == 1 { retry_now(attempt) } else { give_up(attempt, "enough") };
        let settlements = held.into_iter().map(|delivery| Settlement { verdict: verdict(attempt), delivery }).collect();
        bench.settle_all(&*consumer, settlements).await?;
    }
    let letters = bench.broker.dead_letters().list(&Default::default()).await?;
    let dead: Vec<Got> = letters.into_iter().map(|letter| Got { message: letter.message, attempt: letter.attempts }).collect();
    same_ids(&sent, &dead)?;
    dead.iter().try_for_each(|dead| unchanged(&sent, dead))
}

fn whole(sent: &[crate::Message], held: &[Delivery], attempt: u32) -> Check {
    let got: Vec<Got> = held.iter().map(Got::of).collect();
    same_ids(sent, &got)?;
    for got in &got {
        ensure!(got.attempt == attempt, "{} came as attempt {} instead of {attempt}", got.id(), got.attempt);
        unchanged(sent, got)?;
    }
    Ok(())
}

pub(crate) fn unchanged(sent: &[crate::Message], got: &Got) -> Check {
    let sent = sent.iter().find(|sent| sent.id() == got.id()).ok_or_else(|| Fault::from("phantom"))?;
    let (is, was) = (got.message.payload().to_bytes()?, sent.payload().to_bytes()?);
    ensure!(is == was, "payload of {}: {} bytes became {} on attempt {}", got.id(), was.len(), is.len(), got.attempt);
    ensure!(got.message.headers() == sent.headers(), "headers of {} became {:?}", got.id(), got.message.headers());
    ensure!(got.message.key() == sent.key(), "key of {} became {:?}", got.id(), got.message.key());
    ensure!(got.message.version() == sent.version(), "version of {} became {}", got.id(), got.message.version());
    ensure!(got.message.time_ms() == sent.time_ms(), "time of {} became {}", got.id(), got.message.time_ms());
    Ok(())
}
