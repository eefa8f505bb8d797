//! `kill -9`, again and again, on two processes that share one PostgreSQL schema, and on the server itself: nothing
//! acknowledged is lost.
//!
//! `ABE_SERVER_KILLS` sets how often the server is killed (2). A kill is not a power failure.

#[path = "support/kill.rs"]
mod kill;
#[path = "support/postgres.rs"]
mod server;

use std::path::PathBuf;
use std::sync::Arc;

use abe_events::broker::Broker;
use abe_events::broker::postgres::PostgresBroker;

use self::kill::{Faults, Result};
use self::server::Server;

/// Where the server is stands in a file, for the workers.
async fn open(folder: PathBuf) -> abe_events::Result<Arc<dyn Broker>> {
    let url = std::fs::read_to_string(folder.join("url"))?;
    // A worker may be started while the server is away.
    let mut tries = 0;
    loop {
        match PostgresBroker::builder(&url)?.open().await {
            Ok(broker) => return Ok(Arc::new(broker)),
            Err(error) if tries >= 60 => return Err(error),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// A worker, when the supervisor started this binary as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker() -> Result {
    kill::work(open, Faults::Pass).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9_of_workers_and_server() -> Result {
    if std::env::var("ABE_KILL_FOLDER").is_ok() {
        return Ok(());
    }
    let Some(server) = Server::own() else { return Ok(()) };
    let kills: usize = std::env::var("ABE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let of_server = std::env::var("ABE_SERVER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(2);
    let url = server.database("kill");
    let place = url.clone();
    let open_there = |folder: PathBuf| {
        let written = std::fs::write(folder.join("url"), &place);
        async move {
            written?;
            open(folder).await
        }
    };
    let every = kills / (of_server + 1);
    let between = |kill: usize| {
        if of_server == 0 || kill == 0 || !kill.is_multiple_of(every.max(1)) || kill / every.max(1) > of_server {
            return 0;
        }
        server.kill9();
        server.start_again();
        kill::WORKERS
    };
    let look = |_: &std::path::Path| {
        for table in ["message", "sharing", "delivery"] {
            assert_eq!(server.sql(&url, &format!("SELECT count(*) FROM abe_events.{table}")), "0", "{table}");
        }
        Ok(())
    };
    kill::campaign("postgres", Faults::Pass, open_there, between, look).await
}
