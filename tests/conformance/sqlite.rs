//! The suite against the SQLite broker: each case on a file of its own, on the wall clock.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abe_events::BoxError;
use abe_events::broker::sqlite::SqliteBroker;
use abe_events::broker::{Answer, Broker};
use abe_events::conformance::{Backend, Report};

use crate::{run_all, say};

/// Opens brokers on files of the system's folder for such.
struct Sqlite;

impl Sqlite {
    fn path(storage: &str) -> PathBuf {
        std::env::temp_dir().join(format!("{storage}.db"))
    }
}

impl Backend for Sqlite {
    fn name(&self) -> &str {
        "sqlite, a file for each case"
    }

    fn open<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        Answer::later(async { Ok(Arc::new(SqliteBroker::builder(Self::path(storage)).open()?) as Arc<dyn Broker>) })
    }

    fn remove<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<(), BoxError>> {
        let path = Self::path(storage).into_os_string();
        let remove = || {
            for end in ["", "-wal", "-shm"] {
                let mut file = path.clone();
                file.push(end);
                match std::fs::remove_file(file) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
            Ok(())
        };
        Answer::ready(remove())
    }

    fn open_without_dead_letters<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Option<Arc<dyn Broker>>, BoxError>> {
        Answer::later(async {
            let path = Self::path(storage);
            let broker = SqliteBroker::builder(&path).open()?;
            let other = abe_events::broker::sqlite::__rusqlite::Connection::open(&path)?;
            other.busy_timeout(Duration::from_secs(10))?;
            let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON abe_dead_letter BEGIN SELECT RAISE(ABORT, 'no more'); END";
            other.execute_batch(refuse)?;
            Ok(Some(Arc::new(broker) as Arc<dyn Broker>))
        })
    }
}

/// What the suite found, once for all tests that look at it.
pub(crate) fn report() -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(|| run_all(Sqlite))
}

/// Prints the table, and fails by what it says.
#[test]
fn table() {
    say(report());
    report().assert();
}
