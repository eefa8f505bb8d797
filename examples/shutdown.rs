//! Shutdown: what has begun is finished, what has not is left for the next start, and a deadline ends the waiting.
//!
//! ```sh
//! cargo run --example shutdown
//! ```
//!
//! A service waits with `runtime.stopped().await` for SIGINT or SIGTERM; this one stops by itself. It prints:
//!
//! ```text
//! report 1 begins
//! asked to stop while report 1 is being written
//! report 1 is written
//! everything in flight was finished
//! 1 written, 1 left in the queue, attempts lost: 0
//! endless report begins
//! still running at the end of the grace time: endless
//! 0 written, 1 left in the queue, attempts lost: 0
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::runtime::Runtime;
use abe_events::{Result, State, event, handlers, subscribe};
use tokio::sync::Semaphore;

/// Somebody wants a report.
#[event(topic = "report.requested")]
struct ReportRequested {
    id: u32,
}

/// How the example knows that a handler runs, and lets it end.
struct Signals {
    begun: Semaphore,
    may_end: Semaphore,
}

impl Signals {
    fn new() -> Arc<Self> {
        Arc::new(Self { begun: Semaphore::new(0), may_end: Semaphore::new(0) })
    }
}

#[subscribe(name = "write")]
async fn write(report: &ReportRequested, State(signals): State<Signals>) -> Result<()> {
    println!("report {} begins", report.id);
    signals.begun.add_permits(1);
    signals.may_end.acquire().await?.forget();
    println!("report {} is written", report.id);
    Ok(())
}

#[subscribe(name = "endless")]
async fn endless(_: &ReportRequested, State(signals): State<Signals>) {
    println!("endless report begins");
    signals.begun.add_permits(1);
    std::future::pending().await
}

#[tokio::main]
async fn main() -> Result<()> {
    finishes_in_time().await?;
    is_cut_off().await
}

async fn finishes_in_time() -> Result<()> {
    let signals = Signals::new();
    // A broker of the program's own outlives the runtime, as a durable one does: what waits is left for the next start.
    // The runtime's own `memory://` does not, and what waits in it would be handled before the end.
    let broker = Arc::new(MemoryBroker::new());
    let runtime = Runtime::builder().broker(broker).handlers(handlers![write]).shared_state(signals.clone()).start().await?;
    runtime.publish_all([ReportRequested { id: 1 }, ReportRequested { id: 2 }]).await?;
    signals.begun.acquire().await?.forget();

    let stopping = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.stop().await }
    });
    runtime.draining().await;
    println!("asked to stop while report 1 is being written");
    signals.may_end.add_permits(1);
    println!("{}", stopping.await?);
    print_numbers(&runtime);
    Ok(())
}

async fn is_cut_off() -> Result<()> {
    let signals = Signals::new();
    let builder = Runtime::builder().handlers(handlers![endless]).shared_state(signals.clone());
    let runtime = builder.shutdown_grace(Duration::from_millis(100)).start().await?;
    runtime.publish(ReportRequested { id: 3 }).await?;
    signals.begun.acquire().await?.forget();
    println!("{}", runtime.stop().await);
    print_numbers(&runtime);
    Ok(())
}

fn print_numbers(runtime: &Runtime) {
    let numbers = runtime.monitor().total();
    println!("{} written, {} left in the queue, attempts lost: {}", numbers.succeeded, numbers.pending, numbers.failed);
}
