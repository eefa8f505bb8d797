//! A backlog far larger than memory is meant to hold: it drains with bounded memory, and the store is as small as before.
//!
//! `ABE_BACKLOG` sets how many events (20,000); `ABE_BACKLOG=1000000 cargo test --release --test backlog` is the long form.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that unwraps says where it failed, and its number is for people")]

#[cfg(feature = "postgres")]
#[path = "support/postgres.rs"]
mod postgres;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use abe_events::broker::sqlite::__rusqlite as rusqlite;
use abe_events::config::Config;
use abe_events::{Runtime, event, handlers, subscribe};

/// How much the process may grow, whatever waits. One event has 200 bytes, so that the long form has 200 MB of them.
const GROWTH_MAX: usize = 64 * 1024 * 1024;

/// How many pages of 4 KiB with something in them the file may have at the end; those of a fresh one, with room for indexes.
const PAGES_MAX: i64 = 64;

#[event(topic = "backlog.filed")]
struct Filed {
    number: usize,
    text: String,
}

/// Which numbers were handled, and how much memory there was at most.
struct Seen {
    handled: Vec<AtomicUsize>,
    resident_max: AtomicUsize,
}

#[subscribe(concurrency = 4)]
async fn file(filed: &Filed, seen: &Seen) {
    if seen.handled[filed.number].fetch_add(1, Ordering::Relaxed) == 0 && filed.number.is_multiple_of(1_000) {
        seen.resident_max.fetch_max(resident_bytes(), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_on_sqlite_drains_with_bounded_memory_and_leaves_an_empty_file() {
    let folder = std::env::temp_dir().join(format!("abe-events-backlog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("backlog.db");
    drain(&format!("sqlite://{}", path.display())).await;
    let (used, rows) = left_in(&path);
    assert_eq!(rows, 0, "rows are left");
    assert!(used <= PAGES_MAX, "{used} pages are still in use");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// How many bytes the tables may have when they are empty and vacuumed.
#[cfg(feature = "postgres")]
const TABLE_BYTES_MAX: i64 = 256 * 1024;

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_on_postgres_drains_with_bounded_memory_and_leaves_empty_tables() {
    let Some(server) = postgres::Server::shared() else { return };
    let url = server.database("backlog");
    drain(&url).await;
    let tables = "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                  WHERE nspname = 'abe_events' AND relname IN ('message', 'sharing', 'delivery', 'dead_letter')";
    for table in server.sql(&url, tables).lines() {
        assert_eq!(server.sql(&url, &format!("SELECT count(*) FROM abe_events.{table}")), "0", "{table} has rows");
        server.sql(&url, &format!("VACUUM abe_events.{table}"));
        let bytes: i64 = server.sql(&url, &format!("SELECT pg_relation_size('abe_events.{table}')")).parse().unwrap();
        assert!(bytes <= TABLE_BYTES_MAX, "{table} has {bytes} bytes and nothing in it");
    }
}

/// Publishes everything while nobody handles, then handles everything.
async fn drain(url: &str) {
    let count: usize = std::env::var("ABE_BACKLOG").map_or(20_000, |count| count.parse().unwrap());
    let seen =
        Arc::new(Seen { handled: std::iter::repeat_with(AtomicUsize::default).take(count).collect(), resident_max: AtomicUsize::new(0) });
    // The subscription exists from its first start on; what is published to a runtime without it waits.
    start(url, &seen, true).await.stop().await;
    let publisher = start(url, &seen, false).await;
    let before = resident_bytes();
    let text = "x".repeat(160);
    for first in (0..count).step_by(1_000) {
        publisher.publish_all((first..count.min(first + 1_000)).map(|number| Filed { number, text: text.clone() })).await.unwrap();
        seen.resident_max.fetch_max(resident_bytes(), Ordering::Relaxed);
    }
    publisher.stop().await;
    assert!(seen.handled.iter().all(|times| times.load(Ordering::Relaxed) == 0), "something was handled too early");

    let runtime = start(url, &seen, true).await;
    while runtime.monitor().total().pending > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    runtime.stop().await;
    let wrong = seen.handled.iter().filter(|times| times.load(Ordering::Relaxed) != 1).count();
    assert_eq!(wrong, 0, "of {count} events so many were not handled exactly once, though nothing failed");
    let grown = seen.resident_max.load(Ordering::Relaxed).saturating_sub(before);
    println!("backlog of {count}: the process grew by {} KiB at most", grown / 1024);
    assert!(grown < GROWTH_MAX, "the process grew by {grown} bytes with a backlog of {count}");
}

async fn start(url: &str, seen: &Arc<Seen>, handling: bool) -> Runtime {
    let builder = Runtime::builder().config(Config::default()).url(url).shared_state(seen.clone());
    let handlers = if handling { handlers![file].to_vec() } else { handlers![idle].to_vec() };
    builder.handlers(handlers).start().await.unwrap()
}

#[event(topic = "backlog.nothing")]
struct Nothing;

/// A runtime needs a handler; this one has nothing to do.
#[subscribe]
async fn idle(_nothing: &Nothing) {}

/// Pages in use and rows of messages and deliveries.
fn left_in(path: &PathBuf) -> (i64, i64) {
    let file = rusqlite::Connection::open(path).unwrap();
    let ask = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let rows = ["abe_message", "abe_sharing", "abe_backlog", "abe_lease", "abe_delivery", "abe_dead_letter"];
    let rows = rows.iter().map(|table| ask(&format!("SELECT count(*) FROM {table}"))).sum();
    (ask("PRAGMA page_count") - ask("PRAGMA freelist_count"), rows)
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
