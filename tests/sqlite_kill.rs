//! `kill -9`, again and again, on two processes that share one SQLite file: nothing acknowledged is lost.
//!
//! A kill is not a power failure: that `synchronous` is on cannot be seen here.

#[path = "support/kill.rs"]
mod kill;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use abe_events::broker::Broker;
use abe_events::broker::sqlite::{__rusqlite as rusqlite, SqliteBroker};

use self::kill::{Faults, Result};

async fn open(folder: PathBuf) -> abe_events::Result<Arc<dyn Broker>> {
    Ok(Arc::new(SqliteBroker::builder(folder.join("events.db")).open()?))
}

/// A worker, when the supervisor started this binary as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker() -> Result {
    kill::work(open, Faults::Fatal).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() -> Result {
    if std::env::var("ABE_KILL_FOLDER").is_ok() {
        return Ok(());
    }
    kill::campaign("sqlite", Faults::Fatal, open, |_| 0, look_at_file).await
}

/// The file is sound, and nothing is left in it of what has ended.
fn look_at_file(folder: &Path) -> Result {
    let connection = rusqlite::Connection::open(folder.join("events.db"))?;
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    assert_eq!(sound, "ok");
    for table in ["abe_message", "abe_sharing", "abe_backlog", "abe_delivery", "abe_lease"] {
        let count: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        assert_eq!(count, 0, "{table}");
    }
    let counters = "SELECT count(*) FROM abe_subscription WHERE pending <> 0 OR unsettled <> 0 OR delayed <> 0 OR bytes <> 0";
    let wrong: i64 = connection.query_row(counters, [], |row| row.get(0))?;
    assert_eq!(wrong, 0, "counters do not end at nothing");
    Ok(())
}
