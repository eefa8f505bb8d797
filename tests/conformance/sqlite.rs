//! The suite against the SQLite broker: each case on files of its own, on the wall clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abe_events::broker::Broker;
use abe_events::broker::sqlite::SqliteBroker;

use crate::bench::{Boxed, Check, Clock, Harness, Size};
use crate::table::run_all;

/// Opens brokers on files in a folder that goes with it.
struct Sqlite {
    folder: PathBuf,
    next: AtomicU64,
}

impl Sqlite {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("abe-events-conformance-{}", std::process::id()));
        // Without it the first case says that no file can be made.
        let _ = std::fs::create_dir_all(&folder);
        Self { folder, next: AtomicU64::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.db", self.next.fetch_add(1, Ordering::SeqCst)))
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Harness for Sqlite {
    fn title(&self) -> &'static str {
        "sqlite, a file for each case"
    }

    fn open(&self) -> Boxed<'_, Check<Arc<dyn Broker>>> {
        Box::pin(async { Ok(Arc::new(SqliteBroker::builder(self.path()).open()?) as Arc<dyn Broker>) })
    }

    fn clock(&self) -> Clock {
        Clock::Real
    }

    fn tolerance(&self) -> Duration {
        // How late a loaded machine may be; nothing waits for it.
        Duration::from_secs(10)
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn usual_lease(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    fn repeats(&self) -> bool {
        false
    }

    fn open_without_dead_letters(&self) -> Boxed<'_, Check<Option<Arc<dyn Broker>>>> {
        Box::pin(async {
            let path = self.path();
            let broker = SqliteBroker::builder(&path).open()?;
            let other = abe_events::broker::sqlite::__rusqlite::Connection::open(&path)?;
            other.busy_timeout(Duration::from_secs(10))?;
            let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON abe_dead_letter BEGIN SELECT RAISE(ABORT, 'no more'); END";
            other.execute_batch(refuse)?;
            Ok(Some(Arc::new(broker) as Arc<dyn Broker>))
        })
    }
}

/// Prints the table, and fails by what it says.
#[test]
fn table() {
    let (table, failed) = run_all(&(Arc::new(Sqlite::new()) as Arc<dyn Harness>), Size::from_env());
    crate::memory::say(&table);
    assert_eq!(failed, 0, "{table}");
}
