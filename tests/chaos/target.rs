//! The broker under test, seen from outside: where it is, what it keeps at the end, and whether it is sound.

use std::path::{Path, PathBuf};
#[cfg(feature = "postgres")]
use std::sync::Arc;

use abe_events::Runtime;
use abe_events::broker::sqlite::__rusqlite as rusqlite;
use abe_events::broker::{DeadLetterFilter, FailureKind};
use abe_events::config::Config;

use crate::checker::Letter;
use crate::handlers;
use crate::history::History;
#[cfg(feature = "postgres")]
use crate::server::Server;
use crate::story::{Mark, SUBSCRIPTIONS};
use crate::support::Result;
use crate::worker::GROUP;

/// Tables that are empty once everything has ended.
const EMPTY_ON_SQLITE: [&str; 5] = ["abe_message", "abe_sharing", "abe_backlog", "abe_delivery", "abe_lease"];
#[cfg(feature = "postgres")]
const EMPTY_ON_POSTGRES: [&str; 3] = ["abe_events.message", "abe_events.sharing", "abe_events.delivery"];

/// Where effects go. Nothing is unique in it: it must not help.
const LEDGER: &str = "CREATE TABLE IF NOT EXISTS chaos_ledger (mark BIGINT NOT NULL)";

/// A broker.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Sqlite(PathBuf),
    /// A server, and the URL of a database on it.
    #[cfg(feature = "postgres")]
    Postgres(Arc<Server>, String),
}

impl Target {
    pub(crate) fn sqlite(folder: &Path) -> Self {
        Self::Sqlite(folder.join("events.db"))
    }

    /// Where it is reached without a proxy.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(file) => format!("sqlite://{}", file.display()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_, url) => url.clone(),
        }
    }

    /// The file, opened by somebody else.
    pub(crate) fn open(&self) -> Result<rusqlite::Connection> {
        match self {
            Self::Sqlite(file) => {
                let connection = rusqlite::Connection::open(file)?;
                connection.busy_timeout(std::time::Duration::from_secs(20))?;
                Ok(connection)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(..) => Err("a server is no file".into()),
        }
    }

    /// Makes the table of effects, and says which kind of ledger it is.
    pub(crate) fn make_ledger(&self) -> Result<&'static str> {
        match self {
            Self::Sqlite(_) => {
                self.open()?.execute_batch(LEDGER)?;
                Ok("sqlite")
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(server, url) => {
                server.try_sql(url, LEDGER)?;
                Ok("postgres")
            }
        }
    }

    /// What stands in the ledger.
    pub(crate) fn effects(&self) -> Result<Vec<Mark>> {
        let sql = "SELECT mark FROM chaos_ledger";
        match self {
            Self::Sqlite(_) => {
                let connection = self.open()?;
                let mut statement = connection.prepare(sql)?;
                let marks = statement.query_map([], |row| row.get(0).map(Mark::of_number))?;
                Ok(marks.collect::<std::result::Result<_, _>>()?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(server, url) => {
                let text = server.try_sql(url, sql)?;
                Ok(text.lines().map(|line| line.parse().map(Mark::of_number)).collect::<std::result::Result<_, _>>()?)
            }
        }
    }

    /// What failed for good.
    pub(crate) async fn letters(&self, folder: &Path) -> Result<Vec<Letter>> {
        let history = History::new(folder, "letters", fastrand::u32(..))?;
        let builder = Runtime::builder().config(Config::default()).url(self.url()).group(GROUP);
        let runtime = builder.handlers(handlers::none()).state(history).start().await?;
        let all = runtime.dead_letters().list(&DeadLetterFilter::default()).await?;
        let mut letters = Vec::with_capacity(all.len());
        for letter in all {
            let mark = Mark::of_id(letter.message.id()).ok_or_else(|| format!("a dead letter of nobody: {}", letter.message.id()))?;
            let name = letter.subscription.as_str();
            let subscription = SUBSCRIPTIONS.iter().position(|known| *known == name).ok_or_else(|| format!("a dead letter of {name}"))?;
            let whole = letter.message.payload().to_bytes()? == mark.body().as_bytes() && letter.message.topic().as_str() == mark.topic();
            let silent = letter.failures.last().is_some_and(|failure| failure.kind == FailureKind::Crash);
            letters.push(Letter { subscription, mark, attempts: letter.attempts, whole, silent });
        }
        runtime.stop().await;
        Ok(letters)
    }

    /// How many messages each subscription was given, where the broker counts that for good.
    pub(crate) fn accepted(&self) -> Result<Option<[u64; 7]>> {
        if !matches!(self, Self::Sqlite(_)) {
            return Ok(None);
        }
        let connection = self.open()?;
        let mut accepted = [0; 7];
        for (name, count) in SUBSCRIPTIONS.iter().zip(&mut accepted) {
            let sql = "SELECT coalesce(sum(accepted), 0) FROM abe_subscription WHERE group_name = ?1 AND name = ?2";
            *count = connection.query_row(sql, [GROUP, name], |row| row.get(0))?;
        }
        Ok(Some(accepted))
    }

    /// What is wrong with what it keeps, once nothing is pending.
    pub(crate) fn faults(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        match self {
            Self::Sqlite(_) => {
                let connection = self.open()?;
                let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
                if sound != "ok" {
                    faults.push(format!("integrity_check: {sound}"));
                }
                for table in EMPTY_ON_SQLITE {
                    let count: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
                    if count != 0 {
                        faults.push(format!("{count} rows are left in {table}"));
                    }
                }
                let sql = "SELECT count(*) FROM abe_subscription WHERE pending <> 0 OR unsettled <> 0 OR delayed <> 0 OR bytes <> 0";
                let wrong: i64 = connection.query_row(sql, [], |row| row.get(0))?;
                if wrong != 0 {
                    faults.push(format!("the counters of {wrong} subscriptions do not end at nothing"));
                }
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(server, url) => {
                for table in EMPTY_ON_POSTGRES {
                    let count = server.try_sql(url, &format!("SELECT count(*) FROM {table}"))?;
                    if count != "0" {
                        faults.push(format!("{count} rows are left in {table}"));
                    }
                }
            }
        }
        Ok(faults)
    }
}
