//! What other clients of the server add, by mistake or by malice.

use std::time::Duration;

use abe_events::broker::{Broker, DeadLetterFilter, FailureKind};
use abe_events::{ErrorKind, Message, Payload, Result, Topic};
use tokio::time::Instant;

use crate::server::Server;
use crate::{PATIENCE, client, drain, nothing_comes, open, order, other, prefix_of, publish, say, spec, text};

/// A plain client adds an event, and one reads ours: fields are CloudEvents attributes, and the payload is untouched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_programs_add_is_handed_out_and_ours_is_read() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("foreign");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let queue = format!("{}:q:shop/reader", prefix_of(&url));
    let words: [&[u8]; 7] = [b"XADD", queue.as_bytes(), b"*", b"topic", b"order.created", b"data", b"{\"a\":1}"];
    say::<String>(server, &words).await?;
    let words: [&[u8]; 11] =
        [b"XADD", queue.as_bytes(), b"*", b"ce-id", b"z", b"ce-type", b"order.paid", b"ce-partitionkey", b"k", b"data", b"x"];
    say::<String>(server, &words).await?;
    let came = drain(&*consumer, 2).await?;
    assert_eq!((came[0].topic().as_str(), text(&came[0]).as_str()), ("order.created", "{\"a\":1}"));
    assert_eq!((came[1].id().to_string().as_str(), came[1].topic().as_str(), came[1].key()), ("z", "order.paid", Some("k")));
    publish(&broker, vec![order("{\"b\":2}")]).await?;
    let entries: Vec<(String, Vec<String>)> = say(server, &[b"XRANGE", queue.as_bytes(), b"-", b"+"]).await?;
    let fields = &entries[0].1;
    let field = |name: &str| fields.iter().position(|field| field == name).map(|at| fields[at + 1].as_str());
    assert_eq!((field("ce-type"), field("data"), field("ce-specversion")), (Some("order.created"), Some("{\"b\":2}"), Some("1.0")));
    broker.close().await
}

/// I17, I50: what nobody can read is kept with its bytes, told why, and holds up nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_in_dead_letters_with_its_bytes() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("garbage");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &[">"])?).await?;
    let queue = format!("{}:q:shop/reader", prefix_of(&url));
    let bytes: &[u8] = b"\x00\xff{\"a\":";
    let garbage: [&[(&[u8], &[u8])]; 7] = [
        &[(b"topic", b"order.created"), (b"ce-specversion", b"7")],
        &[(b"topic", b"order.created"), (b"ce-id", b"\xff\xfe")],
        &[(b"ce-id", b"a"), (b"ce-id", b"b")],
        &[(b"ce-type", b"order.created"), (b"ce-time", b"yesterday")],
        &[(b"topic", b"no;topic!")],
        &[(b"ce-type", b"order.created"), (b"abe-due", b"nan"), (b"ce-abeheaders", b"[[[[")],
        &[(b"\xff", b"\xff")],
    ];
    for fields in garbage {
        let mut command = client::cmd("XADD");
        command.arg(&queue).arg("*");
        for (name, value) in fields {
            command.arg(*name).arg(*value);
        }
        command.arg("data").arg(bytes);
        command.query_async::<String>(&mut other(server).await?).await.map_err(abe_events::Error::from)?;
    }
    // More fields than a script can hand to a command, and none of them a payload.
    let mut many = client::cmd("XADD");
    many.arg(&queue).arg("*");
    for number in 0..9_000 {
        many.arg(number).arg("x");
    }
    many.query_async::<String>(&mut other(server).await?).await.map_err(abe_events::Error::from)?;
    publish(&broker, vec![order("good")]).await?;
    assert_eq!(text(&drain(&*consumer, 1).await?[0]), "good");
    let began = Instant::now();
    while broker.dead_letters().count().await? < 8 {
        assert!(began.elapsed() < PATIENCE, "{} of 8 dead letters", broker.dead_letters().count().await?);
        nothing_comes(&*consumer).await;
    }
    let letters = broker.dead_letters().list(&DeadLetterFilter::all()).await?;
    for letter in &letters[..7] {
        assert_eq!(letter.message.payload().to_bytes()?, bytes);
        assert!(letter.failures[0].kind == FailureKind::Undecodable && letter.attempts == 1 && letter.reason().len() > 20, "{letter:?}");
    }
    let all = letters[7].message.payload().to_bytes()?;
    assert!(all.len() > 18_000, "all of it is kept: {}", all.len());
    nothing_comes(&*consumer).await;
    // What comes back is as unreadable as it was, and ends there again under the same id.
    let again = DeadLetterFilter { limit: 1, ..DeadLetterFilter::all() };
    assert_eq!(broker.dead_letters().replay(&again).await?, 1);
    while broker.dead_letters().count().await? < 8 {
        assert!(began.elapsed() < PATIENCE, "what was replayed does not come back");
        nothing_comes(&*consumer).await;
    }
    let back = broker.dead_letters().list(&DeadLetterFilter::of(letters[0].message.id().clone())).await?;
    assert_eq!(back[0].message.payload().to_bytes()?, bytes);
    assert_eq!(broker.dead_letters().purge(&DeadLetterFilter::all()).await?, 8);
    broker.close().await
}

/// I49: what was taken away from outside is made again or missed aloud, and never stops anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_is_made_again() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let url = server.prefix("removed");
    let broker = open(&url).await?;
    let consumer = broker.subscribe(&spec("reader", &["order.>"])?).await?;
    let (queue, records) = (format!("{}:q:shop/reader", prefix_of(&url)), format!("{}:subs", prefix_of(&url)));
    // The group: what waits is handed out all the same, and what is handed out is not handed out twice.
    publish(&broker, vec![order("held"), order("waits")]).await?;
    let held = crate::take_one(&*consumer).await?;
    say::<i64>(server, &[b"XGROUP", b"DESTROY", queue.as_bytes(), b"abe"]).await?;
    let next = take_after_error(&*consumer).await?;
    assert_eq!((text(&held.message), text(&next.message)), ("held".into(), "waits".into()));
    for delivery in [held, next] {
        crate::settle_well(&*consumer, delivery, abe_events::broker::Verdict::Ack).await;
    }
    nothing_comes(&*consumer).await;
    // Entries that had been handed out, the stream, the record.
    for words in [&["XTRIM", &queue, "MAXLEN", "0"][..], &["DEL", &queue], &["DEL", &records]] {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        say::<i64>(server, &words).await?;
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "it is not made again");
            if publish(&broker, vec![order("x")]).await? == 1 {
                break;
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), consumer.receive(0, 1, Vec::new())).await;
        }
        let delivery = take_after_error(&*consumer).await?;
        assert_eq!(text(&delivery.message), "x");
        crate::settle_well(&*consumer, delivery, abe_events::broker::Verdict::Ack).await;
    }
    broker.close().await
}

async fn take_after_error(consumer: &dyn abe_events::broker::Consumer) -> Result<abe_events::broker::Delivery> {
    loop {
        match crate::take_one(consumer).await {
            Ok(delivery) => return Ok(delivery),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}

/// No text becomes a key, a command or a script: ids, keys and headers that look like them are carried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_becomes_an_order_to_the_server() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let broker = open(&server.prefix("hostile")).await?;
    let mut wanted = spec("reader", &["order.>"])?;
    wanted.ordered = true;
    let consumer = broker.subscribe(&wanted).await?;
    let hostile = ["\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL", "'; redis.call('FLUSHALL') --", "}:subs", "0-0 - %d", ": ;", "*"];
    let sent: Vec<Message> = hostile
        .iter()
        .map(|word| {
            let message = Message::new(Topic::from_static("order.created"), 1, Payload::from_bytes(word.as_bytes().to_vec()));
            let message = message.with_key(Some((*word).into()));
            word.parse().map_or(message.clone(), |id| message.with_id(id))
        })
        .collect();
    assert_eq!(publish(&broker, sent.clone()).await?, sent.len() as u64);
    let came = drain(&*consumer, sent.len()).await?;
    for (sent, came) in sent.iter().zip(&came) {
        assert_eq!((sent.id(), sent.key(), text(sent)), (came.id(), came.key(), text(came)));
    }
    let error = say::<i64>(server, &[b"XLEN", b"nothing of ours"]).await?;
    assert_eq!(error, 0);
    let refused = abe_events::broker::redis::RedisBroker::builder("redis://localhost?prefix=a}b").map(drop).expect_err("no name");
    assert_eq!(refused.kind(), ErrorKind::Config);
    broker.close().await
}
