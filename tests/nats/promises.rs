//! What is promised and can be broken by a wrong order of steps: attempts, leases, dead letters, delays, patterns.

use std::time::Duration;

use abe_events::broker::{Broker, DeadLetterFilter, Verdict};
use abe_events::{ErrorKind, Result};
use tokio::time::{Instant, sleep};

use crate::server::Server;
use crate::{
    client, drain, failure, message, nothing_comes, open, order, other, publish, settle, settle_well, spec, stream_of, take, take_one, text,
};

/// Promise 2 of the seam: a subscription exists from the moment `subscribe` answered, for publishers elsewhere, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_made_elsewhere_is_missed_by_no_publish() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("elsewhere");
    let (publisher, reader) = (open(&url).await?, open(&url).await?);
    for number in 0..20 {
        let consumer = reader.subscribe(&spec(&format!("reader-{number}"), &["order.>"])?).await?;
        publish(&publisher, vec![order(number)]).await?;
        assert_eq!(text(&drain(&*consumer, 1).await?[0]), number.to_string());
    }
    publisher.close().await?;
    reader.close().await
}

/// Promises 6 and 10: failures, silent ends and crashes are attempts; releases and what no lane had got are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_counted_and_releases_are_not() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let broker = open(&server.stream("attempts")).await?;
    let mut wanted = spec("reader", &["order.>"])?;
    wanted.lease = Some(Duration::from_secs(2));
    let consumer = broker.subscribe(&wanted).await?;
    publish(&broker, vec![order("x")]).await?;
    let first = take_one(&*consumer).await?;
    assert_eq!((first.attempt, first.failures.is_none()), (1, true));
    settle_well(&*consumer, first, Verdict::Release { after: Duration::ZERO }).await;
    let again = take_one(&*consumer).await?;
    assert_eq!(again.attempt, 1, "a release is no attempt");
    settle_well(&*consumer, again, Verdict::Retry { after: Duration::ZERO, failure: failure(1, "first") }).await;
    let second = take_one(&*consumer).await?;
    assert_eq!((second.attempt, second.failures.as_ref().map(|failures| failures.len())), (2, Some(1)));
    // It outlives its lease without a word.
    drop(second);
    let third = take_one(&*consumer).await?;
    assert_eq!(third.attempt, 3, "a silent end is an attempt");
    assert_eq!(third.failures.as_ref().map(|failures| failures.len()), Some(1), "what was said before is kept");
    settle_well(&*consumer, third, Verdict::Release { after: Duration::from_millis(50) }).await;
    let third = take_one(&*consumer).await?;
    assert_eq!((third.attempt, third.failures.as_ref().map(|failures| failures.len())), (3, Some(1)));
    settle_well(&*consumer, third, Verdict::DeadLetter { failure: failure(3, "last") }).await;
    let letters = broker.dead_letters().list(&DeadLetterFilter::all()).await?;
    let texts: Vec<&str> = letters[0].failures.iter().map(|failure| failure.text.as_str()).collect();
    assert_eq!((letters[0].attempts, texts), (3, vec!["first", "last"]));
    broker.close().await
}

/// I11: the server would take the word of one who lost its lease, so it is not sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_lease_settles_nothing() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("lease");
    let (zombie, heir) = (open(&url).await?, open(&url).await?);
    let mut wanted = spec("reader", &["order.>"])?;
    wanted.lease = Some(Duration::from_millis(900));
    let (late, next) = (zombie.subscribe(&wanted).await?, heir.subscribe(&wanted).await?);
    for verdict in [
        Verdict::Ack,
        Verdict::Retry { after: Duration::ZERO, failure: failure(1, "late") },
        Verdict::DeadLetter { failure: failure(1, "late") },
        Verdict::Release { after: Duration::ZERO },
    ] {
        publish(&zombie, vec![order("x")]).await?;
        let held = take_one(&*late).await?;
        let token = held.token;
        // Another process has it by now, and still works on it.
        let stands = take_one(&*next).await?;
        assert_eq!(stands.attempt, 2);
        assert_eq!(late.renew(&[token]).await?, [token]);
        let settled = settle(&*late, held, verdict).await;
        assert_eq!((settled.lost.len(), settled.failed.len()), (1, 0), "{settled:?}");
        assert_eq!(zombie.dead_letters().count().await?, 0);
        // Not acked by the other's word: it comes again when this one has lost its lease, too.
        drop(stands);
        let third = take_one(&*next).await?;
        assert_eq!(third.attempt, 3);
        settle_well(&*next, third, Verdict::Ack).await;
    }
    zombie.close().await?;
    heir.close().await
}

/// Promise 9: first the dead letter, then the ack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_stays_until_its_dead_letter_is_stored() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("bury");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    publish(&broker, vec![order("x")]).await?;
    let jetstream = client::jetstream::new(other(server).await?);
    jetstream.delete_stream(format!("{}_dead", stream_of(&url))).await?;
    let delivery = take_one(&*consumer).await?;
    let mut settled = settle(&*consumer, delivery, Verdict::DeadLetter { failure: failure(1, "enough") }).await;
    let (back, error) = settled.failed.pop().expect("a settlement that was not carried out");
    assert!(error.is_retryable(), "{error:?}");
    // Nobody settles it: it is still the subscription's.
    drop(back);
    consumer.close().await?;
    let next = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    assert_eq!(text(&take_one(&*next).await?.message), "x");
    broker.close().await
}

/// I44: neither a delayed event nor a retry is early, not even if the server dies meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_not_early_though_the_server_dies() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let broker = open(&server.stream("delay")).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let delay = Duration::from_secs(4);
    publish(&broker, vec![order("retried")]).await?;
    let failed = take_one(&*consumer).await?;
    let began = Instant::now();
    settle_well(&*consumer, failed, Verdict::Retry { after: delay, failure: failure(1, "later") }).await;
    let outgoing = abe_events::broker::Outgoing { messages: abe_events::broker::Messages::One(order("delayed")), delay, origin: None };
    broker.publish(outgoing).await.map_err(abe_events::Error::from)?;
    nothing_comes(&*consumer).await;
    let server = tokio::task::spawn_blocking(move || {
        server.kill9();
        server.restart();
        server
    })
    .await?;
    let mut came = Vec::new();
    while came.len() < 2 {
        // While the server is away an answer may be an error.
        let Ok(got) = take(&*consumer, 2).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        for delivery in got {
            assert!(began.elapsed() >= delay, "{} came after {:?}", text(&delivery.message), began.elapsed());
            came.push((text(&delivery.message), delivery.attempt));
            settle_well(&*consumer, delivery, Verdict::Ack).await;
        }
    }
    came.sort();
    assert_eq!(came, [("delayed".to_owned(), 1), ("retried".to_owned(), 2)]);
    broker.close().await?;
    drop(server);
    Ok(())
}

/// A consumer has one filter on this server: what nobody asked for is never handed out, and what was asked for is never left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_may_change_and_nothing_is_lost() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("patterns");
    let (broker, elsewhere) = (open(&url).await?, open(&url).await?);
    // Somebody who keeps everything, so that what is not asked for is there.
    let all = broker.subscribe(&spec("all", &[">"])?).await?;
    let old = broker.subscribe(&spec("reader", &["order.created", "user.created"])?).await?;
    let some = |round: &str| {
        vec![
            message("order.created", format!("o{round}")),
            message("order.paid", format!("p{round}")),
            message("user.created", format!("u{round}")),
        ]
    };
    publish(&broker, some("1")).await?;
    let mine: Vec<String> = drain(&*old, 2).await?.iter().map(text).collect();
    assert_eq!(mine, ["o1", "u1"]);
    publish(&broker, some("2")).await?;
    // Another version of the program takes other topics; what waited is still its own.
    let new = elsewhere.subscribe(&spec("reader", &["order.paid", "user.created"])?).await?;
    publish(&broker, some("3")).await?;
    let mine: Vec<String> = drain(&*new, 4).await?.iter().map(text).collect();
    assert_eq!(mine, ["o2", "u2", "p3", "u3"]);
    // The older one does not know, and throws nothing away; what it used to take it may still get.
    publish(&broker, some("4")).await?;
    let mine: Vec<String> = drain(&*old, 2).await?.iter().map(text).filter(|text| text != "o4").collect();
    assert_eq!(mine, ["p4", "u4"]);
    old.close().await?;
    nothing_comes(&*new).await;
    publish(&broker, some("5")).await?;
    let mine: Vec<String> = drain(&*new, 2).await?.iter().map(text).collect();
    assert_eq!(mine, ["p5", "u5"]);
    nothing_comes(&*new).await;
    assert_eq!(drain(&*all, 15).await?.len(), 15);
    broker.close().await?;
    elsewhere.close().await
}

/// What JetStream cannot do is refused with the cure, and nothing is quietly less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_is_refused() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let broker = open(&server.stream("refused")).await?;
    let mut wanted = spec("reader", &["order.>"])?;
    wanted.ordered = true;
    let error = broker.subscribe(&wanted).await.map(drop).expect_err("no order per key");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("leave out `ordered`"), "{error}");
    let mut wanted = spec("reader", &["order.>"])?;
    wanted.lease = None;
    assert_eq!(broker.subscribe(&wanted).await.map(drop).expect_err("no lease").kind(), ErrorKind::Unsupported);
    let large = order("x".repeat(broker.capabilities().payload_bytes_max + 1));
    let error = publish(&broker, vec![order("small"), large]).await.expect_err("too large");
    assert!(error.kind() == ErrorKind::TooLarge && error.to_string().contains("max_payload"), "{error}");
    broker.close().await
}
