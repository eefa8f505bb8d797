//! A commit that nobody hears the end of: the connection breaks, or the server dies with all its processes, before the commit
//! gets there or after it is done. The effect is there once, the event ends, and what it published comes.

use std::sync::Arc;
use std::time::Duration;

use abe_events::{Result, Runtime, Tx, handlers, subscribe};

use super::common::{effects, rows, write};
use super::place::{Db, Place};
use crate::proxy::{Commit, Proxy};
use crate::server::Server;
use crate::support::{Booked, Count, Notes, Paid, builder, until};

const LEASE: Duration = Duration::from_millis(500);

#[subscribe(name = "pays", retry(attempts = 100, min = "1ms", max = "20ms"))]
async fn pays(paid: &Paid, mut tx: Tx<Db>, count: &Count) -> Result<Booked> {
    count.next();
    write(&mut tx, paid.number, "paid").await?;
    tx.publish(Booked { number: 10 * paid.number, account: 1 }).await?;
    Ok(Booked { number: 10 * paid.number + 1, account: 1 })
}

#[subscribe(name = "notes", retry(attempts = 100, min = "1ms", max = "20ms"))]
async fn notes(booked: &Booked, notes: &Notes) {
    notes.add(booked.number);
}

async fn start(broker: &str, store: &str, notes_: &Notes, count: &Arc<Count>) -> Runtime {
    let builder = builder().url(broker).store(store).lease(LEASE).handlers(handlers![pays, notes]);
    builder.state(notes_.clone()).shared_state(count.clone()).start().await.unwrap()
}

/// What follows from the event came, whatever came of its commit: at least once each.
fn followed(notes: &Notes) -> Vec<String> {
    let mut all = notes.all();
    all.sort();
    all.dedup();
    all
}

/// One event whose first commit is met; answers how often its handler was called.
async fn commit_is_met(server: &'static Server, dies: bool, durable: bool, at: Commit) -> u32 {
    let url = tokio::task::spawn_blocking(|| server.database("commits")).await.unwrap();
    let place = Place::at(&url).await;
    let proxy = Proxy::new(server.port()).await.unwrap();
    let (notes, count) = (Notes::default(), Arc::new(Count::default()));
    let broker = if durable { url.as_str() } else { "memory://" };
    let runtime = start(broker, &proxy.through(&url), &notes, &count).await;
    let met = Notes::default();
    let witness = met.clone();
    proxy.at_commit(at, move || {
        witness.add("met");
        if dies {
            server.kill9();
            server.start_again();
        }
    });
    runtime.publish(Paid::new(1)).await.unwrap();
    // While the server is away, looking fails as well.
    until("what it published comes", async || followed(&notes) == ["10", "11"]).await;
    until("all of it ends", async || runtime.monitor().total().pending == 0).await;
    assert_eq!(met.len(), 1, "no commit was met");
    let total = runtime.monitor().total();
    assert_eq!((total.dead, total.duplicates), (0, u64::from(at == Commit::Done)), "{}", runtime.monitor());
    until("nothing is left", async || rows(&place, "outbox").await == 0).await;
    runtime.stop().await;
    assert_eq!((effects(&place).await, rows(&place, "inbox").await), (vec![1], 1));
    count.get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_before_the_commit_leaves_nothing_and_the_event_comes_again() {
    let Some(server) = Server::shared() else { return };
    for durable in [false, true] {
        assert_eq!(commit_is_met(server, false, durable, Commit::Unheard).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_has_its_effect_once() {
    let Some(server) = Server::shared() else { return };
    for durable in [false, true] {
        assert_eq!(commit_is_met(server, false, durable, Commit::Done).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_the_commit_has_the_effect_once() {
    let Some(server) = Server::own() else { return };
    // Connections outlive the test; the server ends with the process.
    let server: &'static Server = Box::leak(Box::new(server));
    for durable in [false, true] {
        assert_eq!(commit_is_met(server, true, durable, Commit::Unheard).await, 2);
        assert_eq!(commit_is_met(server, true, durable, Commit::Done).await, 1);
    }
}
