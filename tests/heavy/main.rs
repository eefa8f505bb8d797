//! What is measured over the whole process, memory, threads and tasks, and so runs one test at a time.
#![expect(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[path = "../it/support.rs"]
#[expect(dead_code, reason = "shared with tests/it, which uses all of it")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::DeadLetterFilter;
use abe_events::{Batch, Result, Runtime, handlers, subscribe};
use tokio::sync::{Mutex, Semaphore};

use self::support::{Notes, Ordered, builder, until};

/// Held by the one test that runs.
static ALONE: Mutex<()> = Mutex::const_new(());

#[subscribe(retry(attempts = 1), concurrency = 4)]
async fn panics_always(order: &Ordered, notes: &Notes) {
    if order.number != u32::MAX {
        panic!("number {}", order.number);
    }
    notes.add("alive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i35_100_000_panics_leak_no_permit_task_or_memory() {
    let _alone = ALONE.lock().await;
    // The default hook prints every panic; a hundred thousand of them say nothing more than one.
    std::panic::set_hook(Box::new(|_| {}));
    let notes = Notes::default();
    let runtime = builder().handlers(handlers![panics_always]).state(notes.clone()).start().await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = (tasks(), resident_bytes());
    for round in 0..10 {
        runtime.publish_all((0..10_000).map(|n| Ordered::new(round * 10_000 + n))).await.unwrap();
        until("the round is through", || runtime.monitor().total().pending == 0).await;
        runtime.dead_letters().purge(&DeadLetterFilter::default()).await.unwrap();
    }
    runtime.publish(Ordered::new(u32::MAX)).await.unwrap();
    until("the subscription still works", || notes.len() == 1).await;
    let monitor = runtime.monitor();
    assert_eq!(monitor.total().panicked, 100_000);
    assert!(monitor.balances() && monitor.total().in_flight == 0);
    assert_eq!(tasks(), before.0);
    let grown = resident_bytes().saturating_sub(before.1);
    assert!(grown < 64 * 1024 * 1024, "resident memory grew by {grown} bytes");
    runtime.stop().await;
    let _ = std::panic::take_hook();
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Permits that a test gives out.
struct Permits(Semaphore);

#[subscribe(timeout = "none")]
async fn stalls(_: &Ordered, permits: &Permits) {
    permits.0.acquire().await.unwrap().forget();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i38_a_backlog_of_a_million_behind_a_stalled_handler_keeps_memory_bounded() {
    let _alone = ALONE.lock().await;
    let permits = Arc::new(Permits(Semaphore::new(0)));
    let runtime = builder().handlers(handlers![stalls]).shared_state(permits.clone()).start().await.unwrap();
    let before = resident_bytes();
    let publisher = runtime.clone();
    let publishing = tokio::spawn(async move { publisher.publish_all_in_parts(1_000_000).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let total = runtime.monitor().total();
    assert!(total.accepted <= 64 && !publishing.is_finished(), "accepted {}", total.accepted);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "resident memory grew by {grown} bytes");
    permits.0.add_permits(Semaphore::MAX_PERMITS / 2);
    publishing.await.unwrap().unwrap();
    until("all are handled", || runtime.monitor().total().pending == 0).await;
    assert_eq!(runtime.monitor().total().succeeded, 1_000_000);
    runtime.stop().await;
}

/// One publish after another, as a producer does.
trait InParts {
    async fn publish_all_in_parts(&self, count: u32) -> Result<()>;
}
impl InParts for Runtime {
    async fn publish_all_in_parts(&self, count: u32) -> Result<()> {
        for number in 0..count {
            self.publish(Ordered::new(number)).await?;
        }
        Ok(())
    }
}

#[subscribe]
async fn quick(order: &Ordered, notes: &Notes) {
    tokio::task::yield_now().await;
    notes.add(order.number);
}

#[subscribe(batch = 50, max_wait = "1h")]
async fn waits_for_more(orders: Batch<Ordered>, notes: &Notes) {
    notes.add(orders.len());
}

#[tokio::test]
async fn a20_1_000_start_stop_cycles_leave_nothing() {
    let _alone = ALONE.lock().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let cycle = async || {
        let runtime = builder().handlers(handlers![quick, waits_for_more]).state(Notes::default()).start().await.unwrap();
        runtime.publish(Ordered::new(1)).await.unwrap();
        runtime.stop().await;
    };
    for _ in 0..50 {
        cycle().await;
    }
    let before = (tasks(), threads(), resident_bytes());
    for _ in 0..1000 {
        cycle().await;
    }
    until("watchdog threads have ended", || threads() <= before.1 + 8).await;
    assert_eq!(tasks(), before.0);
    let grown = resident_bytes().saturating_sub(before.2);
    assert!(grown < 48 * 1024 * 1024, "resident memory grew by {grown} bytes");
}
