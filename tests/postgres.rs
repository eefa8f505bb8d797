//! The PostgreSQL broker from outside: two programs on one server, a server that dies, answers that are lost, roles that may
//! do little, and everything hostile that may be published.

#[path = "support/program.rs"]
mod program;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/postgres.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use abe_events::broker::postgres::PostgresBroker;
use abe_events::broker::{
    Broker, Consumer, DeadLetterFilter, Delivery, Durability, Failure, FailureKind, Messages, Outgoing, Settlement, SubscriptionSpec,
    Verdict,
};
use abe_events::config::Config;
use abe_events::{Error, ErrorKind, Headers, Message, Name, Payload, Result, Runtime, Topic, TopicPattern, event, handlers, subscribe};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use self::proxy::Proxy;
use self::server::Server;

/// How long anything may take on a loaded machine; nothing waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn spec(name: &str) -> Result<SubscriptionSpec> {
    let mut spec = SubscriptionSpec::new(Name::new("shop")?, Name::new(name)?, vec![TopicPattern::new("order.>")?]);
    spec.unsettled_max = 10_000;
    Ok(spec)
}

fn message(number: usize) -> Message {
    Message::new(Topic::from_static("order.created"), 1, Payload::from_bytes(number.to_string().into_bytes()))
}

async fn publish(broker: &dyn Broker, messages: Vec<Message>) -> Result<u64> {
    let outgoing = Outgoing { messages: Messages::Many(messages), delay: Duration::ZERO, origin: None };
    Ok(broker.publish(outgoing).await.map_err(Error::from)?.deliveries)
}

async fn open(url: &str) -> Result<PostgresBroker> {
    PostgresBroker::builder(url)?.open().await
}

async fn take(consumer: &dyn Consumer, max: usize) -> Result<Vec<Delivery>> {
    timeout(PATIENCE, consumer.receive(0, max, Vec::new())).await.map_err(|_late| Error::msg("nothing came"))?
}

async fn ack(consumer: &dyn Consumer, deliveries: Vec<Delivery>) {
    let settled = consumer.settle(deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()).await;
    assert!(settled.failed.is_empty() && settled.lost.is_empty(), "{settled:?}");
}

/// Takes and acks until `count` different messages came.
async fn drain(consumer: &dyn Consumer, count: usize) -> Result<Vec<Message>> {
    let mut all: Vec<Message> = Vec::new();
    while all.len() < count {
        let got = take(consumer, 100).await?;
        all.extend(got.iter().map(|delivery| delivery.message.clone()));
        ack(consumer, got).await;
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_goes_on_where_it_stopped() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    program::goes_on_where_it_stopped(&server.database("program")).await
}

/// Promise 2 of the seam: a subscription exists from the moment `subscribe` answered, for publishers elsewhere, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_made_elsewhere_is_missed_by_no_publish() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.database("epoch");
    let (publisher, other) = (open(&url).await?, open(&url).await?);
    // The publisher knows that nobody takes anything; then it knows of one, then of two, and so on.
    for known in 0..20 {
        assert_eq!(publish(&publisher, vec![message(0)]).await?, known);
        other.subscribe(&spec(&format!("reader-{known}"))?).await?;
        assert_eq!(publish(&publisher, vec![message(0), message(1)]).await?, 2 * (known + 1));
    }
    // One that is being made is no obstacle, and is seen as soon as it is there.
    let mut session = server.session(&url);
    session.run(
        "BEGIN; UPDATE abe_events.epoch SET n = 42; INSERT INTO abe_events.subscription (group_name, name, ordered) VALUES ('shop', 'late', false); \
         INSERT INTO abe_events.pattern SELECT max(number), 'order.>' FROM abe_events.subscription",
    );
    assert_eq!(publish(&publisher, vec![message(0)]).await?, 20);
    session.run("COMMIT");
    assert_eq!(publish(&publisher, vec![message(0)]).await?, 21);
    publisher.close().await?;
    other.close().await
}

/// What others publish is found by a notification long before the next look, and without notifications by looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_publish_is_found_by_hint_and_by_look() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    for (name, parameters) in [("hint", "poll_ms=60000"), ("look", "poll_ms=50&notify=off")] {
        let url = format!("{}?{parameters}", server.database(name));
        let (publisher, reader) = (open(&url).await?, open(&url).await?);
        let consumer = reader.subscribe(&spec("reader")?).await?;
        for number in 0..5 {
            let waiting = timeout(Duration::from_secs(40), consumer.receive(0, 1, Vec::new()));
            let (got, sent) = tokio::join!(waiting, async {
                // The reader waits by then, and its listener is there or will look once when it is.
                tokio::time::sleep(Duration::from_millis(50)).await;
                publish(&publisher, vec![message(number)]).await
            });
            assert_eq!(sent?, 1);
            ack(&*consumer, got.map_err(|_late| Error::msg(name))??).await;
        }
        publisher.close().await?;
        reader.close().await?;
    }
    Ok(())
}

/// The server is killed while publishers publish and a reader reads: nothing acknowledged is lost, and all goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_loses_nothing_and_is_found_again() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let broker = Arc::new(open(&format!("{}?connect_timeout=2", server.database("dies"))).await?);
    let consumer = broker.subscribe(&spec("reader")?).await?;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut publishers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (broker, stop) = (broker.clone(), stop.clone());
        publishers.spawn(async move {
            let (mut stored, mut unknown, mut refused) = (Vec::new(), Vec::new(), 0);
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let message = message(stored.len());
                let id = message.id().to_string();
                match publish(&*broker, vec![message]).await {
                    Ok(_) => stored.push(id),
                    Err(error) if error.kind() == ErrorKind::Unknown => unknown.push(id),
                    Err(error) if error.kind() == ErrorKind::NotStored => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (stored, unknown, refused)
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let server = tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            server.kill9();
            server.start_again();
        }
        server
    });
    let server = server.await.map_err(Error::from)?;
    let back = Instant::now();
    // A publish that succeeds, and what it published arrives: the whole way is open again.
    while publish(&*broker, vec![message(0)]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let publishing = back.elapsed();
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let (mut stored, mut unknown) = (Vec::new(), Vec::new());
    for (some, open, _) in publishers.join_all().await {
        stored.extend(some);
        unknown.extend(open);
    }
    let mut seen = std::collections::BTreeSet::new();
    let reading = async {
        while !stored.iter().all(|id| seen.contains(id)) {
            match consumer.receive(0, 100, Vec::new()).await {
                Ok(got) => {
                    seen.extend(got.iter().map(|delivery| delivery.message.id().to_string()));
                    ack(&*consumer, got).await;
                }
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    timeout(PATIENCE, reading).await.map_err(|_late| Error::msg("acknowledged messages are lost"))?;
    assert!(publishing < Duration::from_secs(30), "publishing went on {publishing:?} after the server");
    assert!(!stored.is_empty());
    broker.close().await?;
    drop(server);
    Ok(())
}

/// The commit is done and its answer lost: the outcome is unknown, and said so. Whatever is called not stored is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_an_unknown_outcome() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    for pooler in ["none", "transaction"] {
        let url = server.database("unknown");
        let count = |id: &str| server.sql(&url, &format!("SELECT count(*) FROM abe_events.message WHERE id = '{id}'"));
        let proxy = Proxy::new(server.port()).await?;
        let broker = open(&format!("{}?connect_timeout=1&connections=2&notify=off&pooler={pooler}", proxy.through(&url))).await?;
        let consumer = broker.subscribe(&spec("reader")?).await?;
        let (mut stored, mut unheard) = (Vec::new(), 0);
        // Where a connection is new, or asked whether it is still there, the answer to that is what gets lost.
        for _ in 0..20 {
            for number in 0..10 {
                let message = message(number);
                stored.push(message.id().to_string());
                publish(&broker, vec![message]).await?;
            }
            proxy.lose_answers();
            let lost = message(10);
            let id = lost.id().to_string();
            let error = publish(&broker, vec![lost]).await.err().ok_or_else(|| Error::msg("answered"))?;
            assert!(!error.to_string().contains("127.0.0.1") && !format!("{error:?}").contains("postgres@"), "{error:?}");
            let there = count(&id) == "1";
            match error.kind() {
                ErrorKind::Unknown => unheard += usize::from(there),
                kind => assert!(kind == ErrorKind::NotStored && !there, "{error}, yet it is there: {there}"),
            }
            stored.extend(there.then_some(id));
            proxy.refuse();
            let refused = message(11);
            let id = refused.id().to_string();
            let error = publish(&broker, vec![refused]).await.err().ok_or_else(|| Error::msg("answered"))?;
            assert!(error.kind() == ErrorKind::NotStored && count(&id) == "0", "{error}");
            proxy.pass();
            if unheard > 0 || pooler == "transaction" {
                break;
            }
        }
        assert!(unheard > 0 || pooler == "transaction", "no commit's answer was lost");
        let came = drain(&*consumer, stored.len()).await?;
        assert_eq!(came.iter().map(|message| message.id().to_string()).collect::<Vec<_>>(), stored);
        broker.close().await?;
    }
    Ok(())
}

/// A server that falls silent without closing anything keeps nobody waiting longer than the timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_given_up_in_time() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let broker = open(&format!("{}?timeout=1&connect_timeout=1", server.database("silent"))).await?;
    let consumer = broker.subscribe(&spec("reader")?).await?;
    publish(&broker, vec![message(0)]).await?;
    let held = take(&*consumer, 1).await?;
    server.freeze();
    let error = timeout(PATIENCE, publish(&broker, vec![message(1)])).await.map_err(|_late| Error::msg("publish hangs"))?;
    let kind = error.err().map(|error| error.kind());
    assert!(matches!(kind, Some(ErrorKind::Unknown | ErrorKind::NotStored)), "{kind:?}");
    let acks = held.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect();
    let settled = timeout(PATIENCE, consumer.settle(acks)).await.map_err(|_late| Error::msg("settle hangs"))?;
    assert_eq!(settled.failed.len(), 1, "given back to be settled again: {settled:?}");
    server.thaw();
    let mut again: Vec<Settlement> = settled.failed.into_iter().map(|(settlement, _)| settlement).collect();
    let settling = async {
        while !again.is_empty() {
            let settled = consumer.settle(std::mem::take(&mut again)).await;
            again = settled.failed.into_iter().map(|(settlement, _)| settlement).collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, settling).await.map_err(|_late| Error::msg("settling does not go on"))?;
    while publish(&broker, vec![message(2)]).await.is_err() {}
    let mut last = String::new();
    while last != "2" {
        for message in drain(&*consumer, 1).await? {
            last = String::from_utf8_lossy(&message.payload().to_bytes()?).into();
        }
    }
    broker.close().await
}

/// Unrelated transactions that stay open for ever, even prepared ones, delay nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a23_unrelated_transactions_delay_nothing() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let url = server.database("unrelated");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader")?).await?;
    server.sql(&url, "CREATE TABLE other (a int)");
    server.sql(&url, "BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'forgotten'");
    let mut session = server.session(&url);
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO other VALUES (2); SELECT count(*) FROM abe_events.message");
    for number in 0..200 {
        publish(&broker, vec![message(number)]).await?;
        let came = drain(&*consumer, 1).await?;
        assert_eq!(came[0].payload().to_bytes()?, number.to_string().as_bytes());
    }
    session.run("ROLLBACK");
    broker.close().await
}

/// Whatever a publisher may put into a message comes back to the byte, through retry, dead letter and replay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_messages_come_back_to_the_byte() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.database("hostile");
    let broker = open(&url).await?;
    let mut wanted = spec("reader")?;
    wanted.ordered = true;
    let consumer = broker.subscribe(&wanted).await?;
    let texts = [
        "",
        "\0",
        "a\0b",
        "'; DROP TABLE abe_events.message; --",
        "\\x00",
        "{1,2}",
        "NULL",
        "\u{feff}🦀\u{202e}",
        "$1",
        "%00",
        "\n\r\t\"\\",
    ];
    let mut sent = Vec::new();
    for (number, text) in texts.into_iter().enumerate() {
        let mut headers = Headers::new();
        // Control characters are refused where a header is made.
        if let Err(error) = headers.insert("tenant", text) {
            assert!(error.kind() == ErrorKind::InvalidName && text.contains(char::is_control), "{text:?}: {error}");
        }
        let mut payload = text.as_bytes().to_vec();
        payload.extend([0, 255, 0xc3, 0x28]);
        let message = Message::new(Topic::from_static("order.created"), 1, Payload::from_bytes(payload))
            .with_id(format!("id '\"\\ {number}").parse()?)
            .with_headers(headers)
            .with_key((!text.is_empty()).then(|| text.into()));
        sent.push(message);
    }
    assert_eq!(publish(&broker, sent.clone()).await?, sent.len() as u64);
    for attempt in 1..=3 {
        if attempt == 3 {
            assert_eq!(broker.dead_letters().replay(&DeadLetterFilter::all()).await?, sent.len() as u64);
        }
        let mut held = Vec::new();
        while held.len() < sent.len() {
            held.extend(take(&*consumer, 100).await?);
        }
        for delivery in &held {
            let is = &delivery.message;
            let was = sent.iter().find(|sent| sent.id() == is.id()).ok_or_else(|| Error::msg("phantom"))?;
            assert_eq!((is.payload().to_bytes()?, is.key(), is.headers()), (was.payload().to_bytes()?, was.key(), was.headers()));
        }
        let verdict = |attempt: u32| {
            let failure = Box::new(Failure::new(FailureKind::Error, attempt, "what\0 an error"));
            match attempt {
                1 => Verdict::Retry { after: Duration::ZERO, failure },
                2 => Verdict::DeadLetter { failure },
                _ => Verdict::Ack,
            }
        };
        let settlements = held.into_iter().map(|delivery| Settlement { verdict: verdict(attempt), delivery }).collect();
        let settled = consumer.settle(settlements).await;
        assert!(settled.failed.is_empty() && settled.lost.is_empty(), "{settled:?}");
    }
    broker.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn programs_that_start_at_once_make_the_tables_once() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = format!("{}?connections=2", server.database("racing"));
    let opened = futures_util::future::join_all((0..8).map(|_| open(&url))).await;
    for broker in opened {
        let broker = broker?;
        assert_eq!(broker.capabilities().durability, Durability::PowerLoss);
        broker.subscribe(&spec("reader")?).await?;
        broker.close().await?;
    }
    assert_eq!(server.sql(&url, "SELECT count(*), min(version) FROM abe_events.schema_version"), "1|1");
    assert_eq!(server.sql(&url, "SELECT count(*) FROM abe_events.subscription"), "1");
    // Tables of a later version are not touched.
    server.sql(&url, "UPDATE abe_events.schema_version SET version = 99");
    let error = open(&url).await.err().ok_or_else(|| Error::msg("opened"))?;
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("version 99"), "{error}");
    Ok(())
}

/// A role for migrations makes the tables; one that may only work with them works, and is refused for what it may not do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_the_right_to_create_works_with_what_is_there() -> Result<()> {
    let Some(server) = Server::own() else { return Ok(()) };
    let admin = server.database("roles");
    server.sql(&admin, "CREATE ROLE worker LOGIN");
    let worker = admin.replace("postgres://postgres@", "postgres://worker@");
    let error = open(&format!("{worker}?migrate=off")).await.err().ok_or_else(|| Error::msg("opened"))?;
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("migrate=off"), "{error}");
    let error = open(&worker).await.err().ok_or_else(|| Error::msg("opened"))?;
    assert!(error.kind() == ErrorKind::Broker && error.to_string().contains("42501"), "{error}");
    open(&admin).await?.close().await?;
    // As the guide prints it.
    for grant in [
        "GRANT USAGE ON SCHEMA abe_events TO worker",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA abe_events TO worker",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA abe_events TO worker",
    ] {
        server.sql(&admin, grant);
    }
    for parameters in ["", "?migrate=off"] {
        let broker = open(&format!("{worker}{parameters}")).await?;
        let consumer = broker.subscribe(&spec("reader")?).await?;
        assert_eq!(publish(&broker, vec![message(0), message(1)]).await?, 2);
        let mut held = Vec::new();
        while held.len() < 2 {
            held.extend(take(&*consumer, 2).await?);
        }
        let failure = Box::new(Failure::new(FailureKind::Permanent, 1, "no"));
        let dead = Settlement { delivery: held.remove(0), verdict: Verdict::DeadLetter { failure } };
        assert!(consumer.settle(vec![dead]).await.failed.is_empty());
        ack(&*consumer, held).await;
        assert_eq!(broker.dead_letters().replay(&DeadLetterFilter::all()).await?, 1);
        drain(&*consumer, 1).await?;
        broker.close().await?;
    }
    Ok(())
}

/// Two schemas of one database share nothing; a third with a name that SQL knows as a word is as good as any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_are_worlds_of_their_own() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.database("schemas");
    let mut brokers = Vec::new();
    for schema in ["one", "two", "select"] {
        let broker = open(&format!("{url}?schema={schema}")).await?;
        let consumer = broker.subscribe(&spec("reader")?).await?;
        brokers.push((broker, consumer));
    }
    for (broker, _) in &brokers {
        assert_eq!(publish(broker, vec![message(0)]).await?, 1);
    }
    for (broker, consumer) in &brokers {
        assert_eq!(drain(&**consumer, 1).await?.len(), 1);
        assert_eq!(consumer.depth().pending(), 0);
        broker.close().await?;
    }
    Ok(())
}

/// A subscription that is to keep order from now on lines up what waits already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_can_be_asked_for_later() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let broker = open(&server.database("reorder")).await?;
    let mut wanted = spec("reader")?;
    wanted.lease = Some(Duration::from_secs(600));
    let consumer = broker.subscribe(&wanted).await?;
    let keyed = |number: usize| message(number).with_key(Some(["a", "b"][number % 2].into()));
    publish(&broker, (0..6).map(keyed).collect()).await?;
    let held = take(&*consumer, 1).await?;
    wanted.ordered = true;
    let error = broker.subscribe(&wanted).await.err().ok_or_else(|| Error::msg("subscribed"))?;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("in use"), "{error}");
    ack(&*consumer, held).await;
    let consumer = broker.subscribe(&wanted).await?;
    publish(&broker, (6..8).map(keyed).collect()).await?;
    for round in 0..4 {
        let held = take(&*consumer, 10).await?;
        // The first of `a` was acked before.
        assert_eq!(held.len(), if round < 3 { 2 } else { 1 }, "one of each key at a time: {held:?}");
        ack(&*consumer, held).await;
    }
    wanted.ordered = false;
    let consumer = broker.subscribe(&wanted).await?;
    publish(&broker, (0..4).map(keyed).collect()).await?;
    let held = take(&*consumer, 10).await?;
    assert_eq!(held.len(), 4, "nobody waits for anybody");
    ack(&*consumer, held).await;
    broker.close().await
}

#[event(topic = "lanes.job")]
struct Job {
    number: u32,
}

/// Where handlers wait until they are let through.
struct Barrier {
    waiting: AtomicU32,
    through: Semaphore,
}

#[subscribe(name = "lanes", concurrency = 12)]
async fn waits(_job: &Job, barrier: &Barrier) {
    barrier.waiting.fetch_add(1, Ordering::SeqCst);
    let _ = barrier.through.acquire().await;
}

/// More lanes than connections: handlers end while their leases are being renewed, and every connection is a renewal's. Lanes
/// that only waited for their verdicts to be stored would never give one back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_wait_for_a_connection_give_back_their_own() -> Result<()> {
    const LANES: u32 = 12;
    let Some(server) = Server::own() else { return Ok(()) };
    let url = format!("{}?connections=3", server.database("lanes"));
    let barrier = Arc::new(Barrier { waiting: AtomicU32::new(0), through: Semaphore::new(0) });
    let builder = Runtime::builder().config(Config::default()).url(url).lease(Duration::from_secs(6));
    let runtime = builder.handlers(handlers![waits]).shared_state(barrier.clone()).start().await?;
    runtime.publish_all((0..LANES).map(|number| Job { number })).await?;
    let all_wait = async {
        while barrier.waiting.load(Ordering::SeqCst) < LANES {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, all_wait).await.map_err(|_late| Error::msg("some did not start"))?;
    // A third of the lease: by then all lanes have asked for their renewal, and nobody answers.
    server.freeze();
    sleep(Duration::from_millis(2_300)).await;
    barrier.through.close();
    sleep(Duration::from_millis(200)).await;
    server.thaw();
    let ended = timeout(PATIENCE / 2, runtime.settled()).await;
    let total = runtime.monitor().total();
    assert!(ended.is_ok() && total.succeeded == u64::from(LANES), "{ended:?}: {}", runtime.monitor());
    runtime.stop().await;
    Ok(())
}
