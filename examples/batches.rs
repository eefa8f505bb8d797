//! Batches: up to so many events per call, none older than `max_wait`, and an outcome for each of them.
//!
//! ```sh
//! cargo run --example batches
//! ```
//!
//! It prints (the last reading waits for 50 ms, then it is counted without company):
//!
//! ```text
//! stored 4 readings: 1.0, 2.0, 3.0, 4.0
//! stored 4 readings: 5.0, 6.0, 7.0, 8.0
//! stored 1 readings: 9.0
//! checked 9 readings, 1 was rejected: 5 is out of range
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod support;

use abe_events::broker::DeadLetterFilter;
use abe_events::{Batch, BatchOutcome, Outcome, Result, event, runtime, subscribe};

use self::support::settled;

/// A sensor was read.
#[event(topic = "sensor.read")]
struct SensorRead {
    value: f64,
}

/// One outcome for all: `Ok` acks every event of the batch, `Err` fails every one.
#[subscribe(name = "store", batch = 4, max_wait = "50ms")]
async fn store(readings: Batch<SensorRead>) -> Result<()> {
    let values: Vec<String> = readings.iter().map(|reading| format!("{:.1}", reading.value)).collect();
    println!("stored {} readings: {}", readings.len(), values.join(", "));
    Ok(())
}

/// An outcome for each: one bad reading costs itself alone.
#[subscribe(name = "check", batch = 100, max_wait = "50ms")]
async fn check(readings: Batch<SensorRead>) -> BatchOutcome {
    readings.iter().map(|reading| if reading.value == 5.0 { Outcome::reject("5 is out of range") } else { Outcome::ack() }).collect()
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = runtime::start().await?;
    runtime.publish_all((1..=9).map(|n| SensorRead { value: f64::from(n) })).await?;
    settled(&runtime).await;
    let dead = runtime.dead_letters().list(&DeadLetterFilter::default()).await?;
    runtime.stop().await;
    if let Some(numbers) = runtime.monitor().subscription("check") {
        let reasons: Vec<&str> = dead.iter().map(|letter| letter.reason()).collect();
        println!("checked {} readings, {} was rejected: {}", numbers.accepted, numbers.dead, reasons.join(", "));
    }
    Ok(())
}
