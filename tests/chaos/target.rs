//! The broker under test, seen from outside: where it is, what it keeps at the end, and whether it is sound.

use std::path::{Path, PathBuf};

use abe_events::Runtime;
use abe_events::broker::sqlite::__rusqlite as rusqlite;
use abe_events::broker::{DeadLetterFilter, FailureKind};
use abe_events::config::Config;

use crate::checker::Letter;
use crate::handlers;
use crate::history::History;
use crate::story::{Mark, SUBSCRIPTIONS};
use crate::support::Result;
use crate::worker::GROUP;

/// Tables that are empty once everything has ended.
const EMPTY: [&str; 5] = ["abe_message", "abe_sharing", "abe_backlog", "abe_delivery", "abe_lease"];

/// A broker's file.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    file: PathBuf,
}

impl Target {
    pub(crate) fn sqlite(folder: &Path) -> Self {
        Self { file: folder.join("events.db") }
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.file.display())
    }

    pub(crate) fn open(&self) -> Result<rusqlite::Connection> {
        let connection = rusqlite::Connection::open(&self.file)?;
        connection.busy_timeout(std::time::Duration::from_secs(20))?;
        Ok(connection)
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

    /// How many messages each subscription was given.
    pub(crate) fn accepted(&self) -> Result<Option<[u64; 7]>> {
        let connection = self.open()?;
        let mut accepted = [0; 7];
        for (name, count) in SUBSCRIPTIONS.iter().zip(&mut accepted) {
            let sql = "SELECT coalesce(sum(accepted), 0) FROM abe_subscription WHERE group_name = ?1 AND name = ?2";
            *count = connection.query_row(sql, [GROUP, name], |row| row.get(0))?;
        }
        Ok(Some(accepted))
    }

    /// What is wrong with the file itself, once nothing is pending.
    pub(crate) fn faults(&self) -> Result<Vec<String>> {
        let connection = self.open()?;
        let mut faults = Vec::new();
        let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if sound != "ok" {
            faults.push(format!("integrity_check: {sound}"));
        }
        for table in EMPTY {
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
        Ok(faults)
    }
}
