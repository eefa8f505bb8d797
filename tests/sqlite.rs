//! The runtime on one SQLite file: chosen by a URL, and everything still there after a restart.

#[path = "support/program.rs"]
mod program;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use abe_events::broker::sqlite::{__rusqlite as rusqlite, SqliteBroker};
use abe_events::broker::{Broker, Messages, Outgoing, Settlement, SubscriptionSpec, Verdict};
use abe_events::config::Config;
use abe_events::{ErrorKind, Message, Name, Payload, Result, Runtime, Topic, TopicPattern, handlers, subscribe};

use self::program::{Notes, Ordered, goes_on_where_it_stopped};

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_goes_on_where_it_stopped() -> Result<()> {
    let folder = Folder(std::env::temp_dir().join(format!("abe-events-runtime-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    goes_on_where_it_stopped(&format!("sqlite://{}", folder.0.join("events.db").display())).await
}

#[subscribe(concurrency = 4)]
async fn tally(order: &Ordered, notes: &Notes) {
    notes.0.lock().unwrap_or_else(PoisonError::into_inner).push((order.user, order.number));
}

/// A claim is a transaction, and so is a settlement: lanes that took one message at a time would pay two for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_handlers_on_several_lanes_share_their_rounds_to_the_file() -> Result<()> {
    let folder = Folder(std::env::temp_dir().join(format!("abe-events-rounds-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    let broker = Arc::new(SqliteBroker::builder(folder.0.join("events.db")).open()?);
    let notes = Notes::default();
    let builder = || Runtime::builder().config(Config::default()).broker(broker.clone()).state(notes.clone()).handlers(handlers![tally]);
    // The subscription exists from its first start on.
    builder().start().await?.stop().await;
    let messages = (0..2_000).map(|number| {
        Message::new(Topic::from_static("program.ordered"), 1, Payload::from_bytes(format!("{{\"number\":{number},\"user\":1}}")))
    });
    broker.publish(Outgoing { messages: Messages::Many(messages.collect()), delay: Duration::ZERO, origin: None }).await?;
    let before = broker.commits();
    let runtime = builder().start().await?;
    runtime.settled().await;
    let rounds = broker.commits() - before;
    assert_eq!(notes.all().len(), 2_000);
    assert!(rounds < 500, "{rounds} transactions for 2,000 messages");
    runtime.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_url_that_is_mistyped_is_told_at_start() {
    let wrong = Runtime::builder().config(Config::default()).url("sqlite://events.db?synchronus=full").handlers(handlers![tally]);
    let Err(error) = wrong.state(Notes::default()).start().await else { panic!("it started") };
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("did you mean `synchronous`?"), "{error}");
}

/// On a real disk without room: `ABE_SMALL_DISK` names an empty folder on a file system of a few MiB, such as a tmpfs.
#[tokio::test]
async fn a_program_outlives_a_full_disk() -> Result<()> {
    let Ok(folder) = std::env::var("ABE_SMALL_DISK") else { return Ok(()) };
    let folder = PathBuf::from(folder);
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![0; 2 << 20])?;
    let broker = SqliteBroker::builder(folder.join("events.db")).open()?;
    let mut spec = SubscriptionSpec::new(Name::new("disk")?, Name::new("reader")?, vec![TopicPattern::new("disk.>")?]);
    spec.unsettled_max = 1_000;
    let consumer = broker.subscribe(&spec).await?;
    let publish = || async {
        let message = Message::new(Topic::new("disk.filled")?, 1, Payload::from_bytes(vec![b'x'; 16 * 1024]));
        let outgoing = Outgoing { messages: Messages::One(message), delay: Duration::ZERO, origin: None };
        broker.publish(outgoing).await.map_err(abe_events::Error::from)
    };
    let mut stored = 0;
    let refused = loop {
        match publish().await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.kind() == ErrorKind::NotStored && stored > 0, "{refused:?} after {stored}");
    for _ in 0..20 {
        assert_eq!(publish().await.map_err(|error| error.kind()).err(), Some(ErrorKind::NotStored));
    }
    std::fs::remove_file(&ballast)?;
    publish().await?;
    let mut handled = 0;
    while consumer.depth().pending() > 0 {
        let deliveries = consumer.receive(0, 16, Vec::new()).await?;
        handled += deliveries.len();
        let settled =
            consumer.settle(deliveries.into_iter().map(|delivery| Settlement { delivery, verdict: Verdict::Ack }).collect()).await;
        assert!(settled.failed.is_empty() && settled.lost.is_empty(), "{settled:?}");
    }
    assert_eq!(handled, stored + 1, "what was refused is not there, what was stored is");
    broker.close().await?;
    let file = rusqlite::Connection::open(folder.join("events.db"))?;
    assert_eq!(file.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?, "ok");
    Ok(())
}
