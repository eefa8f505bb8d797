//! Servers that die and fall silent, and answers that are lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use abe_events::broker::redis::RedisBroker;
use abe_events::broker::{Broker, Consumer, Settlement, Verdict};
use abe_events::{ErrorKind, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::Proxy;
use crate::server::Server;
use crate::{PATIENCE, drain, nothing_comes, open, order, publish, settle_well, spec, take, text};

/// Publishes until it is stored, with the same id, as whoever is told `Unknown` must.
async fn publish_until_stored(broker: &dyn Broker, number: usize) -> Result<(String, usize)> {
    let (message, mut tries) = (order(number), 1);
    let id = message.id().to_string();
    loop {
        match publish(broker, vec![message.clone()]).await {
            Ok(_) => return Ok((id, tries)),
            Err(error) if matches!(error.kind(), ErrorKind::Unknown | ErrorKind::NotStored) => tries += 1,
            Err(error) => return Err(error),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Reads and acks until every id was seen; tells how many came twice.
async fn read_all(consumer: &dyn Consumer, count: usize, seen: &AtomicUsize) -> Result<(BTreeSet<String>, usize)> {
    let (mut ids, mut again) = (BTreeSet::new(), 0);
    while ids.len() < count {
        match timeout(PATIENCE, consumer.receive(0, 100, Vec::new())).await {
            Err(_late) => break,
            Ok(Err(error)) => {
                assert!(error.is_retryable(), "{error}");
                sleep(Duration::from_millis(20)).await;
            }
            Ok(Ok(got)) => {
                again += got.iter().filter(|delivery| !ids.insert(delivery.message.id().to_string())).count();
                seen.store(ids.len(), Ordering::SeqCst);
                let mut left: Vec<Settlement> = got.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect();
                while !left.is_empty() {
                    let settled = consumer.settle(left).await;
                    left = settled.failed.into_iter().map(|(settlement, _)| settlement).collect();
                }
            }
        }
    }
    Ok((ids, again))
}

/// Case 15 of the field's standard: a hundred publishers, and a server that is killed twice while its messages are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_twice_loses_nothing() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let count = if std::env::var("ABE_CONFORMANCE").is_ok_and(|size| size == "stress") { 100_000 } else { 10_000 };
    let broker = Arc::new(RedisBroker::builder(&server.prefix("dies"))?.timeout(Duration::from_secs(2)).open().await?);
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let seen = Arc::new(AtomicUsize::new(0));
    let mut publishers = JoinSet::new();
    for first in 0..100 {
        let broker = broker.clone();
        publishers.spawn(async move {
            let (mut ids, mut again) = (Vec::new(), 0);
            for number in (first..count).step_by(100) {
                let (id, tries) = publish_until_stored(&*broker, number).await?;
                ids.push(id);
                again += tries - 1;
            }
            Ok::<_, abe_events::Error>((ids, again))
        });
    }
    let killer = tokio::task::spawn_blocking({
        let seen = seen.clone();
        move || {
            for at in [count / 3, count / 2] {
                while seen.load(Ordering::SeqCst) < at {
                    std::thread::yield_now();
                }
                server.kill9();
                server.restart();
            }
            server
        }
    });
    let reading = timeout(10 * PATIENCE, read_all(&*consumer, count, &seen)).await;
    let (ids, again) = reading.map_err(|_late| abe_events::Error::msg("the reading does not end"))??;
    let (mut sent, mut tries) = (BTreeSet::new(), 0);
    for published in publishers.join_all().await {
        let (ids, again) = published?;
        sent.extend(ids);
        tries += again;
    }
    let server = killer.await?;
    println!("{count} messages, two kills of the server: {tries} publishes tried again, {again} deliveries again");
    assert_eq!((sent.len(), ids.len()), (count, count));
    assert!(sent == ids, "acknowledged messages are lost");
    broker.close().await?;
    drop(server);
    Ok(())
}

/// I40: a program that waits finds a server that comes back, without being told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_goes_on_within_ten_seconds_of_the_server() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let broker = Arc::new(open(&server.prefix("waits")).await?);
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let waiting = tokio::spawn(async move {
        loop {
            match take(&*consumer, 1).await {
                Ok(mut got) => return got.pop().map(|delivery| text(&delivery.message)),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    });
    sleep(Duration::from_millis(200)).await;
    server.kill9();
    // It is away for longer than the first tries to connect again.
    sleep(Duration::from_secs(2)).await;
    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await?;
    let back = Instant::now();
    publish_until_stored(&*broker, 7).await?;
    assert_eq!(waiting.await?.as_deref(), Some("7"));
    assert!(back.elapsed() < Duration::from_secs(10), "it went on after {:?}", back.elapsed());
    broker.close().await?;
    drop(server);
    Ok(())
}

/// I3: what is certain is called certain, what is not is `Unknown`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_unknown_and_a_refusal_certain() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("answers");
    let direct = open(&url).await?;
    let consumer = direct.subscribe(&spec("reader", &["order.>"])?).await?;
    let proxy = Proxy::new(server.port()).await?;
    let broker = RedisBroker::builder(&proxy.through(&url))?.timeout(Duration::from_secs(1)).open().await?;
    proxy.lose_answers();
    let message = order("once");
    let error = publish(&broker, vec![message]).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    // It is stored all the same.
    let first = crate::take_one(&*consumer).await?;
    assert_eq!(text(&first.message), "once");
    settle_well(&*consumer, first, Verdict::Ack).await;
    // Nobody is reached any more: now it is certain that nothing is stored.
    proxy.refuse();
    let began = Instant::now();
    let refused = loop {
        let error = publish(&broker, vec![order("never")]).await.expect_err("nobody is there");
        if error.kind() == ErrorKind::NotStored {
            break error;
        }
        assert!(began.elapsed() < PATIENCE, "{error}");
    };
    assert!(refused.to_string().contains("reached") || refused.to_string().contains("no connection"), "{refused}");
    proxy.pass();
    while let Err(error) = publish(&broker, vec![order("after")]).await {
        // While nobody is reached nothing is stored: what comes is there once.
        assert_eq!(error.kind(), ErrorKind::NotStored, "{error}");
        assert!(began.elapsed() < PATIENCE, "the connection does not come back");
    }
    assert_eq!(text(&drain(&*consumer, 1).await?[0]), "after", "what was refused was stored");
    nothing_comes(&*consumer).await;
    broker.close().await?;
    direct.close().await
}

/// A settlement whose answer is lost is reported; made again it finds nothing left to settle, and the message does not come twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_without_an_answer_is_still_the_caller_s() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("settle");
    let proxy = Proxy::new(server.port()).await?;
    let broker = RedisBroker::builder(&proxy.through(&url))?.timeout(Duration::from_secs(1)).open().await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    publish(&broker, vec![order("x")]).await?;
    let delivery = crate::take_one(&*consumer).await?;
    proxy.lose_answers();
    let mut left = vec![Settlement { delivery, verdict: Verdict::Ack }];
    let settled = consumer.settle(left).await;
    assert_eq!((settled.lost.len(), settled.failed.len()), (0, 1), "{settled:?}");
    left = settled.failed.into_iter().map(|(settlement, _)| settlement).collect();
    proxy.pass();
    let began = Instant::now();
    while !left.is_empty() {
        assert!(began.elapsed() < PATIENCE, "{left:?}");
        left = consumer.settle(left).await.failed.into_iter().map(|(settlement, _)| settlement).collect();
    }
    publish(&broker, vec![order("next")]).await?;
    assert_eq!(text(&drain(&*consumer, 1).await?[0]), "next");
    broker.close().await
}

/// I41: a server that neither answers nor hangs up is noticed, by every call and by who waits for messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_holds_nobody() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let broker = RedisBroker::builder(&server.prefix("silent"))?.timeout(Duration::from_secs(1)).open().await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    publish(&broker, vec![order("held")]).await?;
    let held = crate::take_one(&*consumer).await?;
    let token = held.token;
    server.freeze();
    let began = Instant::now();
    let error = publish(&broker, vec![order("silent")]).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    assert!(consumer.renew(&[token]).await.is_err());
    let settled = consumer.settle(vec![Settlement { delivery: held, verdict: Verdict::Ack }]).await;
    assert_eq!(settled.failed.len(), 1, "{settled:?}");
    assert!(broker.dead_letters().count().await.is_err());
    // Who waits is told in the end, or waits for a connection that is known to be gone.
    let told = timeout(Duration::from_secs(40), consumer.receive(0, 1, Vec::new())).await;
    assert!(matches!(&told, Ok(Err(error)) if error.is_retryable()), "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "the silence was noticed after {:?}", began.elapsed());
    server.thaw();
    publish_until_stored(&broker, 1).await?;
    let mut came = Vec::new();
    while !came.contains(&"1".to_owned()) {
        for delivery in take(&*consumer, 10).await.unwrap_or_default() {
            came.push(text(&delivery.message));
            settle_well(&*consumer, delivery, Verdict::Ack).await;
        }
    }
    broker.close().await?;
    drop(server);
    Ok(())
}
