//! What other clients of the server publish, by mistake or by malice.

use abe_events::broker::{Broker, DeadLetterFilter, FailureKind};
use abe_events::{Headers, Result, Topic};

use tokio::time::Instant;

use crate::server::Server;
use crate::{PATIENCE, client, drain, nothing_comes, open, order, other, publish, spec, stream_of, take_one, text};

/// Plain payloads, CloudEvents in both modes and ABE's envelope are events like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_programs_publish_is_handed_out() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("foreign");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let other = other(server).await?;
    let subject = format!("{}.order.created", stream_of(&url));
    other.publish(subject.clone(), "{\"order_id\":1}".into()).await?;
    let mut headers = client::HeaderMap::new();
    for (name, value) in
        [("ce-specversion", "1.0"), ("ce-type", "order.created"), ("ce-source", "/go"), ("ce-id", "go-2"), ("ce-partitionkey", "k")]
    {
        headers.insert(name, value);
    }
    other.publish_with_headers(subject.clone(), headers, "{\"order_id\":2}".into()).await?;
    let event = "{\"specversion\":\"1.0\",\"type\":\"order.created\",\"source\":\"/go\",\"id\":\"go-3\",\"data\":{\"order_id\":3}}";
    other.publish(subject.clone(), event.into()).await?;
    let envelope = "{\"version\":\"v2\",\"type\":\"order.created\",\"data\":{\"order_id\":4},\"meta\":{\"timestamp\":\"2026-11-22T10:00:00Z\",\"correlation_id\":\"c\",\"source\":\"abe\"}}";
    other.publish(subject, envelope.into()).await?;
    other.flush().await?;
    let got = drain(&*consumer, 4).await?;
    assert_eq!(got.iter().map(text).collect::<Vec<_>>(), ["{\"order_id\":1}", "{\"order_id\":2}", "{\"order_id\":3}", "{\"order_id\":4}"]);
    assert!(got.iter().all(|message| message.topic().as_str() == "order.created"), "{got:?}");
    assert_eq!((got[1].id().to_string(), got[1].key(), got[2].id().to_string()), ("go-2".to_owned(), Some("k"), "go-3".to_owned()));
    assert_eq!(got[3].version(), 2);
    assert_eq!(broker.dead_letters().count().await?, 0);
    broker.close().await
}

/// I17, I50: what nobody can read is kept with its bytes, told why, and holds up nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_in_dead_letters_with_its_bytes() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("garbage");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &[">"])?).await?;
    let other = other(server).await?;
    let stream = stream_of(&url);
    let bytes: &[u8] = b"\x00\xff{\"a\":";
    let garbage: [(&str, &[(&str, &str)]); 6] = [
        ("order.created", &[("ce-specversion", "7")]),
        ("order.created", &[("ce-id", "%ff%fe")]),
        ("order.created", &[("ce-id", "a"), ("ce-id", "b")]),
        ("order.created", &[("ce-time", "yesterday"), ("Nats-Msg-Id", "1")]),
        ("order.created", &[("ce-abeheaders", "[[[[")]),
        ("no;topic!", &[]),
    ];
    for (topic, lines) in garbage {
        let mut headers = client::HeaderMap::new();
        lines.iter().for_each(|(name, value)| headers.append(*name, *value));
        other.publish_with_headers(format!("{stream}.{topic}"), headers, bytes.into()).await?;
    }
    // As large as the server takes, and a header that asks to wait for ever less one.
    let mut headers = client::HeaderMap::new();
    headers.insert("ce-specversion", "7");
    headers.insert("Abe-Delay", "-1");
    let largest = vec![0xff; 1024 * 1024 - 64];
    other.publish_with_headers(format!("{stream}.order.created"), headers, largest.clone().into()).await?;
    other.flush().await?;
    publish(&broker, vec![order("good")]).await?;
    assert_eq!(text(&drain(&*consumer, 1).await?[0]), "good");
    // Two connections have no order between them.
    let began = Instant::now();
    while broker.dead_letters().count().await? < 7 {
        assert!(began.elapsed() < PATIENCE, "{} of 7 dead letters", broker.dead_letters().count().await?);
        nothing_comes(&*consumer).await;
    }
    let mut letters = broker.dead_letters().list(&DeadLetterFilter::all()).await?;
    letters.sort_by_key(|letter| letter.message.payload().to_bytes().map_or(0, |payload| payload.len()));
    for letter in &letters[..6] {
        assert_eq!(letter.message.payload().to_bytes()?, bytes);
    }
    assert_eq!(letters[6].message.payload().to_bytes()?, largest);
    for letter in &letters {
        assert!(letter.failures[0].kind == FailureKind::Undecodable && letter.attempts == 1 && letter.reason().len() > 20, "{letter:?}");
    }
    nothing_comes(&*consumer).await;
    // What comes back is as unreadable as it was, and ends there again under the same id.
    let again = DeadLetterFilter { limit: 1, ..DeadLetterFilter::all() };
    assert_eq!(broker.dead_letters().replay(&again).await?, 1);
    while broker.dead_letters().count().await? < 7 {
        assert!(began.elapsed() < PATIENCE, "what was replayed does not come back");
        nothing_comes(&*consumer).await;
    }
    let back = broker.dead_letters().list(&DeadLetterFilter::of(letters[0].message.id().clone())).await?;
    assert_eq!(back[0].message.payload().to_bytes()?, bytes);
    assert_eq!(broker.dead_letters().purge(&DeadLetterFilter::all()).await?, 7);
    broker.close().await
}

/// M22: one publish to an administrative subject would delete the stream; no text from outside becomes one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_becomes_an_order_to_the_server() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("hostile");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let order_to_delete = format!("$JS.API.STREAM.DELETE.{}", stream_of(&url));
    for name in [order_to_delete.as_str(), "$SYS.x", "_INBOX.a", "a b", "a\r\nPUB b 0", "a.*", ">"] {
        assert!(Topic::new(name).is_err(), "{name}");
    }
    let mut headers = Headers::new();
    headers.insert("note", "grüße: PUB x 0")?;
    for name in ["Nats-Rollup", "nats-expected-last-sequence", "Nats-TTL", "Nats-Msg-Id", "Abe-For"] {
        assert!(headers.insert(name, "all").is_err(), "{name}");
    }
    let hostile = order("x")
        .with_headers(headers)
        .with_key(Some(format!("x\r\nNats-Rollup: all\r\n\r\nPUB {order_to_delete} 0\r\n").into()))
        .with_id(order_to_delete.parse()?);
    publish(&broker, vec![hostile.clone(), order("good")]).await?;
    let got = drain(&*consumer, 2).await?;
    assert_eq!((got[0].headers(), got[0].key(), got[0].id()), (hostile.headers(), hostile.key(), hostile.id()));
    assert_eq!(text(&got[1]), "good");
    broker.close().await
}

/// A message that is meant for one subscription, as replays are, reaches no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_meant_for_another_is_not_handed_out() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.stream("address");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let mut headers = client::HeaderMap::new();
    headers.insert("Abe-For", "shop.another");
    let other = other(server).await?;
    other.publish_with_headers(format!("{}.order.created", stream_of(&url)), headers, "{}".into()).await?;
    other.flush().await?;
    nothing_comes(&*consumer).await;
    publish(&broker, vec![order("mine")]).await?;
    assert_eq!(text(&take_one(&*consumer).await?.message), "mine");
    broker.close().await
}
