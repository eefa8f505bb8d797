//! What is promised and can be broken by a wrong step: attempts, leases, dead letters, delays, order, patterns.

use std::time::Duration;

use abe_events::broker::{Broker, DeadLetterFilter, Verdict};
use abe_events::{ErrorKind, Result};
use tokio::time::{Instant, sleep};

use crate::server::Server;
use crate::{
    drain, failure, message, nothing_comes, open, order, prefix_of, publish, say, settle, settle_well, spec, take, take_one, text,
};

/// Promise 2 of the seam: a subscription exists from the moment `subscribe` answered, for publishers elsewhere, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_made_elsewhere_is_missed_by_no_publish() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("elsewhere");
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
    let broker = open(&server.prefix("attempts")).await?;
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

/// I11: who has lost the lease changes nothing, whatever it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_lease_settles_nothing() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("lease");
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
    let url = server.prefix("bury");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    publish(&broker, vec![order("x")]).await?;
    say::<()>(server, &[b"SET", format!("{}:dead", prefix_of(&url)).as_bytes(), b"no stream"]).await?;
    let delivery = take_one(&*consumer).await?;
    let mut settled = settle(&*consumer, delivery, Verdict::DeadLetter { failure: failure(1, "enough") }).await;
    let (back, error) = settled.failed.pop().expect("a settlement that was not carried out");
    assert!(error.is_retryable(), "{error:?}");
    say::<()>(server, &[b"DEL", format!("{}:dead", prefix_of(&url)).as_bytes()]).await?;
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
    let broker = open(&server.prefix("delay")).await?;
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

/// Promise 5: who stands behind another of its key waits for it, and for nobody else; over two processes, and a change of mind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_per_key_holds_over_retries_and_processes() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("order");
    let (broker, elsewhere) = (open(&url).await?, open(&url).await?);
    let keyed = |key: &str, word: &str| order(word).with_key(Some(key.into()));
    // Two of a key have begun without order.
    let unordered = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    publish(&broker, vec![keyed("a", "a1"), keyed("a", "a2")]).await?;
    let mut begun = take(&*unordered, 2).await?;
    while begun.len() < 2 {
        begun.extend(take(&*unordered, 1).await?);
    }
    let mut ordered = spec("reader", &["order.>"])?;
    ordered.ordered = true;
    let error = elsewhere.subscribe(&ordered).await.map(drop).expect_err("it is in use without order");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("in use"), "{error}");
    for delivery in begun {
        settle_well(&*unordered, delivery, Verdict::Retry { after: Duration::from_millis(200), failure: failure(1, "later") }).await;
    }
    unordered.close().await?;
    let (one, two) = (broker.subscribe(&ordered).await?, elsewhere.subscribe(&ordered).await?);
    publish(&broker, vec![keyed("a", "a3"), keyed("b", "b1"), keyed("b", "b2"), order("free")]).await?;
    let mut came: Vec<String> = Vec::new();
    let mut retried = false;
    while came.len() < 6 {
        let consumer = if came.len().is_multiple_of(2) { &one } else { &two };
        let delivery = take_one(&**consumer).await?;
        if text(&delivery.message) == "b1" && !std::mem::replace(&mut retried, true) {
            settle_well(&**consumer, delivery, Verdict::Retry { after: Duration::from_millis(300), failure: failure(1, "later") }).await;
            continue;
        }
        came.push(text(&delivery.message));
        settle_well(&**consumer, delivery, Verdict::Ack).await;
    }
    let of = |key: &str| came.iter().filter(|word| word.starts_with(key)).cloned().collect::<Vec<_>>();
    assert_eq!((of("a"), of("b")), (vec!["a1".into(), "a2".into(), "a3".into()], vec!["b1".into(), "b2".into()]), "{came:?}");
    assert_eq!(came[0], "free", "who stands in no line waits for nobody: {came:?}");
    nothing_comes(&*one).await;
    broker.close().await?;
    elsewhere.close().await
}

/// The server matches topics as everybody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_mean_the_same_on_the_server() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let broker = open(&server.prefix("patterns")).await?;
    let topics = ["a", "b", "a.a", "a.b", "b.a", "a.a.a", "a.b.a", "a-b", "a.a-b.a"];
    let patterns = ["a", "*", ">", "a.*", "*.a", "a.>", "*.*", "*.>", "a.*.a", "*.b.>", "a-b", "a.a-b.*", "a.a.a.>"];
    let mut wanted = 0;
    for (number, pattern) in patterns.iter().enumerate() {
        // Dropped at once: the subscription stays.
        drop(broker.subscribe(&spec(&format!("reader-{number}"), &[pattern])?).await?);
    }
    let mut took = 0;
    for topic in topics {
        let matching = patterns.iter().filter(|pattern| abe_events::TopicPattern::new(pattern).is_ok_and(|pattern| pattern.matches(topic)));
        let matching = matching.count() as u64;
        let deliveries = publish(&broker, vec![message(topic, "x")]).await?;
        assert_eq!(deliveries, matching, "{topic}");
        wanted += matching;
        took += deliveries;
    }
    assert!(took == wanted && took > 30, "{took}");
    broker.close().await
}

/// What cannot be kept is refused with the cure, and nothing is quietly less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_is_refused() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let broker = open(&server.prefix("refused")).await?;
    let mut wanted = spec("reader", &["order.>"])?;
    wanted.lease = None;
    assert_eq!(broker.subscribe(&wanted).await.map(drop).expect_err("no lease").kind(), ErrorKind::Unsupported);
    let many = (0..10_001).map(order).collect();
    let error = publish(&broker, many).await.expect_err("too many");
    assert!(error.kind() == ErrorKind::TooLarge && error.to_string().contains("10000"), "{error}");
    broker.close().await
}
