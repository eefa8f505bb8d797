//! What an operator does and sees: how the server keeps what it is given, full memory, users, secrets.

use std::time::Duration;

use abe_events::broker::redis::RedisBroker;
use abe_events::broker::{Broker, DeadLetterFilter, Durability, Verdict};
use abe_events::{ErrorKind, Result};

use crate::server::Server;
use crate::{failure, open, order, publish, say, settle_well, spec, take_one};

/// M14: what a server keeps is found out at the start and declared, and what would lose whole queues is refused with the cure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_the_server_keeps_what_it_is_given_is_found_out() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let url = server.prefix("kept");
    let set = async |name: &str, value: &str| say::<()>(&server, &[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]).await;
    let declared = async || -> Result<Durability> {
        let broker = open(&url).await?;
        broker.close().await?;
        Ok(broker.capabilities().durability)
    };
    assert_eq!(declared().await?, Durability::PowerLoss);
    set("no-appendfsync-on-rewrite", "yes").await?;
    assert_eq!(declared().await?, Durability::ServerCrash);
    set("no-appendfsync-on-rewrite", "no").await?;
    set("appendfsync", "everysec").await?;
    assert_eq!(declared().await?, Durability::Restart);
    set("appendfsync", "always").await?;
    set("appendonly", "no").await?;
    assert_eq!(declared().await?, Durability::Restart);
    set("appendonly", "yes").await?;
    set("maxmemory-policy", "allkeys-lru").await?;
    let error = open(&url).await.map(drop).expect_err("it throws away what waits");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("maxmemory-policy noeviction"), "{error}");
    set("maxmemory-policy", "noeviction").await?;
    // Where it may not be asked, nothing is claimed.
    say::<()>(&server, &[b"ACL", b"SETUSER", b"default", b"-config"]).await?;
    assert_eq!(declared().await?, Durability::Restart);
    Ok(())
}

/// A full server refuses for certain; what it holds is still handed out and acked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_stores_nothing_and_says_so() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let broker = open(&server.prefix("full")).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    publish(&broker, vec![order("before")]).await?;
    let held = take_one(&*consumer).await?;
    say::<()>(&server, &[b"CONFIG", b"SET", b"maxmemory", b"1"]).await?;
    let error = publish(&broker, vec![order("never")]).await.expect_err("it is full");
    assert!(error.kind() == ErrorKind::NotStored && error.to_string().contains("maxmemory"), "{error}");
    settle_well(&*consumer, held, Verdict::Ack).await;
    say::<()>(&server, &[b"CONFIG", b"SET", b"maxmemory", b"0"]).await?;
    publish(&broker, vec![order("after")]).await?;
    assert_eq!(crate::text(&take_one(&*consumer).await?.message), "after");
    broker.close().await?;
    drop(server);
    Ok(())
}

/// The user of the guide can do all that a program does, and nothing worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_needs_no_more_than_the_guide_says() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let limited = server.url_of("shop").replace("redis://:", "redis://shop:");
    let broker = RedisBroker::builder(&limited)?.timeout(Duration::from_secs(2)).open().await?;
    assert_eq!(broker.capabilities().durability, Durability::PowerLoss, "it may ask how the server keeps things");
    let mut wanted = spec("limited", &["order.>"])?;
    wanted.ordered = true;
    let consumer = broker.subscribe(&wanted).await?;
    publish(&broker, vec![order("x").with_key(Some("k".into())), order("y").with_key(Some("k".into()))]).await?;
    let first = take_one(&*consumer).await?;
    assert_eq!(consumer.renew(&[first.token]).await?, []);
    settle_well(&*consumer, first, Verdict::Release { after: Duration::ZERO }).await;
    let first = take_one(&*consumer).await?;
    settle_well(&*consumer, first, Verdict::Retry { after: Duration::from_millis(20), failure: failure(1, "again") }).await;
    let second = take_one(&*consumer).await?;
    assert_eq!(second.attempt, 2);
    settle_well(&*consumer, second, Verdict::DeadLetter { failure: failure(2, "enough") }).await;
    let behind = take_one(&*consumer).await?;
    settle_well(&*consumer, behind, Verdict::Ack).await;
    assert_eq!(broker.dead_letters().replay(&DeadLetterFilter::all()).await?, 1);
    let back = take_one(&*consumer).await?;
    settle_well(&*consumer, back, Verdict::DeadLetter { failure: failure(1, "enough") }).await;
    assert_eq!(broker.dead_letters().purge(&DeadLetterFilter::all()).await?, 1);
    broker.close().await?;
    let other = limited.replace("prefix=shop", "prefix=other");
    let broker = RedisBroker::builder(&other)?.open().await?;
    let error = broker.subscribe(&wanted).await.map(drop).expect_err("keys that are not its own");
    assert!(error.to_string().contains("must be allowed"), "{error}");
    broker.close().await
}

/// I54: neither errors nor `Debug` repeat what a URL holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let wrong = server.prefix("secret").replace("hunter2", "hunter3");
    let error = open(&wrong).await.map(drop).expect_err("the wrong password");
    assert!(error.to_string().contains("refuses the user") && !format!("{error:?} {error}").contains("hunter"), "{error:?}");
    let builder = RedisBroker::builder(&server.prefix("secret"))?;
    assert!(!format!("{builder:?}").contains("hunter"), "{builder:?}");
    let broker = builder.open().await?;
    assert!(!format!("{broker:?}").contains("hunter"), "{broker:?}");
    broker.close().await
}
