//! What an operator does and sees: streams that would lose messages, consumers that are removed, logins, secrets.

use std::time::Duration;

use abe_events::broker::nats::NatsBroker;
use abe_events::broker::{Broker, DeadLetterFilter, Verdict};
use abe_events::{ErrorKind, Result};
use tokio::time::Instant;

use crate::client::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use crate::server::Server;
use crate::{client, drain, failure, open, order, other, publish, settle_well, spec, stream_of, take, take_one, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_would_lose_messages_is_refused_with_the_cure() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let jetstream = client::jetstream::new(other(server).await?);
    let sound = |name: &str| Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        retention: RetentionPolicy::Interest,
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    };
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 4] = [
        (|config| config.max_age = Duration::from_secs(300), "`max_age` to 0"),
        (|config| config.retention = RetentionPolicy::Limits, "another name"),
        (|config| config.storage = client::jetstream::stream::StorageType::Memory, "another name"),
        (|config| config.discard = DiscardPolicy::Old, "`discard` to `new`"),
    ];
    for (change, cure) in changes {
        let url = server.stream("unsound");
        let mut config = sound(stream_of(&url));
        change(&mut config);
        jetstream.create_stream(config).await?;
        let error = open(&url).await.map(drop).expect_err("it would lose messages");
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(cure), "{error}");
    }
    let url = server.stream("sound");
    jetstream.create_stream(sound(stream_of(&url))).await?;
    open(&url).await?.close().await
}

/// A limit that an operator has set refuses what is new; nothing that waits is dropped for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_stores_nothing_and_says_so() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("full");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let jetstream = client::jetstream::new(other(server).await?);
    let mut stream = jetstream.get_stream(stream_of(&url)).await?;
    let config = Config { max_messages: 3, ..stream.info().await?.config.clone() };
    jetstream.update_stream(config).await?;
    publish(&broker, vec![order(0), order(1)]).await?;
    let outgoing = abe_events::broker::Outgoing {
        messages: abe_events::broker::Messages::Many((2..6).map(order).collect()),
        delay: Duration::ZERO,
        origin: None,
    };
    let refused = broker.publish(outgoing).await.expect_err("three are allowed");
    assert!(refused.stored == 1 && refused.error.kind() == ErrorKind::NotStored, "{refused}");
    assert_eq!(drain(&*consumer, 3).await?.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2"]);
    publish(&broker, vec![order(6)]).await?;
    assert_eq!(text(&drain(&*consumer, 1).await?[0]), "6");
    broker.close().await
}

/// A consumer that somebody removes is made again, and the program goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_removed_is_made_again() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("removed");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let jetstream = client::jetstream::new(other(server).await?);
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { take(&*consumer, 1).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    jetstream.delete_consumer_from_stream("shop~reader", stream_of(&url)).await?;
    let began = Instant::now();
    while publish(&broker, vec![order("x")]).await.is_err() || !waiting.is_finished() {
        assert!(began.elapsed() < crate::PATIENCE, "nothing comes any more");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let got = waiting.await??;
    assert_eq!(text(&got[0].message), "x");
    broker.close().await
}

/// A dead letter whose subscription is gone stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_without_its_subscription_is_not_handed_to_nobody() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("orphan");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    publish(&broker, vec![order("x")]).await?;
    let delivery = take_one(&*consumer).await?;
    settle_well(&*consumer, delivery, Verdict::DeadLetter { failure: failure(1, "enough") }).await;
    consumer.close().await?;
    let jetstream = client::jetstream::new(other(server).await?);
    jetstream.delete_consumer_from_stream("shop~reader", stream_of(&url)).await?;
    let error = broker.dead_letters().replay(&DeadLetterFilter::all()).await.expect_err("nobody would get it");
    assert!(error.to_string().contains("shop/reader"), "{error}");
    assert_eq!(broker.dead_letters().count().await?, 1);
    broker.close().await
}

/// The user of the guide can do all that a program does, and nothing worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_needs_no_more_than_the_guide_says() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.url_of("shop");
    open(&url).await?.close().await?;
    let limited = url.replace("nats://shop:", "nats://limited:");
    let broker = NatsBroker::builder(&limited)?.timeout(Duration::from_secs(2)).open().await?;
    let consumer = broker.subscribe(&spec("limited", &["order.>"])?).await?;
    publish(&broker, vec![order("x")]).await?;
    let first = take_one(&*consumer).await?;
    assert_eq!(consumer.renew(&[first.token]).await?, []);
    settle_well(&*consumer, first, Verdict::Release { after: Duration::ZERO }).await;
    let first = take_one(&*consumer).await?;
    settle_well(&*consumer, first, Verdict::Retry { after: Duration::from_millis(20), failure: failure(1, "again") }).await;
    let second = take_one(&*consumer).await?;
    assert_eq!(second.attempt, 2);
    settle_well(&*consumer, second, Verdict::DeadLetter { failure: failure(2, "enough") }).await;
    assert_eq!(broker.dead_letters().replay(&DeadLetterFilter::all()).await?, 1);
    let back = take_one(&*consumer).await?;
    settle_well(&*consumer, back, Verdict::DeadLetter { failure: failure(1, "enough") }).await;
    assert_eq!(broker.dead_letters().purge(&DeadLetterFilter::all()).await?, 1);
    consumer.close().await?;
    broker.close().await?;
    let options = client::ConnectOptions::with_user_and_password("limited".into(), "hunter2".into());
    let jetstream = client::jetstream::new(options.connect(server.address()).await.map_err(abe_events::Error::from)?);
    let deleting = tokio::time::timeout(Duration::from_secs(1), jetstream.delete_stream("shop")).await;
    assert!(!matches!(deleting, Ok(Ok(_))), "a program's user may delete its stream");
    open(&url).await?.close().await
}

/// I54: neither errors nor `Debug` repeat what a URL holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let wrong = server.stream("secret").replace("hunter2", "hunter3");
    let error = open(&wrong).await.map(drop).expect_err("the wrong password");
    assert!(error.to_string().contains("refuses the user") && !format!("{error:?} {error}").contains("hunter"), "{error:?}");
    let builder = NatsBroker::builder(&server.stream("secret"))?;
    assert!(!format!("{builder:?}").contains("hunter"), "{builder:?}");
    let broker = builder.open().await?;
    assert!(!format!("{broker:?}").contains("hunter"), "{broker:?}");
    let plain = format!("nats://shop:hunter2@127.0.0.1:{}?tls=on&connect_timeout=2", server.port());
    let error = open(&plain).await.map(drop).expect_err("this server has no TLS");
    assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    broker.close().await
}
