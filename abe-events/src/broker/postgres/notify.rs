//! Telling other processes that there is something new: a hint, never relied upon.
//!
//! A notification within the publishing transaction would make all commits of the database wait for each other. So it is sent
//! after the commit, for all that was published meanwhile at once, and who misses it finds everything by looking.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::db::{Db, Values};
use super::live::Lives;

/// How long what is published is gathered before others are told.
const GATHER: Duration = Duration::from_millis(10);

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// A notification holds at most 8,000 bytes.
const NUMBERS_MAX: usize = 500;

/// Subscriptions that others are to be told of.
#[derive(Debug, Default)]
pub(super) struct Hints {
    on: bool,
    numbers: Mutex<BTreeSet<i32>>,
    more: Notify,
}

impl Hints {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    pub(super) fn add(&self, numbers: &[i32]) {
        if self.on && !numbers.is_empty() {
            self.numbers.lock().unwrap_or_else(PoisonError::into_inner).extend(numbers);
            self.more.notify_one();
        }
    }
}

fn channel(db: &Db) -> String {
    format!("{}.published", db.schema)
}

/// Tells others, as long as the broker is open.
pub(super) async fn tell(db: Db, lives: Arc<Lives>, me: String, closed: CancellationToken) {
    let work = async {
        // Nothing of worth is lost with this commit.
        let sql = db.sql("SELECT pg_notify($1, $2) WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL");
        loop {
            lives.hints.more.notified().await;
            tokio::time::sleep(GATHER).await;
            let numbers = std::mem::take(&mut *lives.hints.numbers.lock().unwrap_or_else(PoisonError::into_inner));
            let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let text = if list.len() > NUMBERS_MAX { format!("{me} *") } else { format!("{me} {}", list.join(",")) };
            if let Err(fault) = db.run(&sql, Values::default().and(channel(&db)).and(text)).await {
                tracing::debug!(error = %fault.failed(), "others are not told that something was published; they find it by looking");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let _: Option<()> = closed.run_until_cancelled(work).await;
}

/// Listens to others, as long as the broker is open, and wakes those concerned.
pub(super) async fn listen(db: Db, lives: Arc<Lives>, me: String, closed: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = hear(&db, &lives, &me).await {
                tracing::debug!(error = %super::error::describe(&error), "notifications are not heard; what others publish is found by looking");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _: Option<()> = closed.run_until_cancelled(work).await;
}

async fn hear(db: &Db, lives: &Lives, me: &str) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(&db.pool).await?;
    listener.listen(&channel(db)).await?;
    loop {
        // Whatever was said while nobody listened is found by looking.
        lives.wake_all();
        while let Some(heard) = listener.try_recv().await? {
            let Some((who, what)) = heard.payload().split_once(' ') else { continue };
            if who == me {
                continue;
            }
            if what == "*" {
                lives.wake_all();
            }
            what.split(',').filter_map(|number| number.parse().ok()).for_each(|number| lives.wake(number));
        }
    }
}
