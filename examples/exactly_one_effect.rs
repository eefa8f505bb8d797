//! Transfers between accounts, handled by a process that is killed again and again: every transfer is booked once.
//!
//! ```sh
//! cargo run --example exactly_one_effect
//! cargo run --example exactly_one_effect --features postgres -- postgres://user@host/database
//! ```
//!
//! Delivery is at least once: a worker that dies after it has booked a transfer, and before it could say so, is given the
//! same transfer again. That it has one effect all the same is the work of `Tx`: the booking and the record that this
//! event was handled are one transaction. It prints:
//!
//! ```text
//! 400 transfers are wished for
//! a worker was killed
//! a worker was killed
//! a worker was killed
//! a worker was killed
//! a worker was killed
//! a worker finished
//! 400 transfers are booked, each once; 400 receipts followed
//! the accounts hold 100000.00 as before
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

#[cfg(feature = "postgres")]
#[path = "exactly_one_effect/postgres.rs"]
mod postgres;
#[path = "exactly_one_effect/sqlite.rs"]
mod sqlite;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use abe_events::{Result, event};

const ACCOUNTS: i64 = 10;
const CENTS_EACH: i64 = 1_000_000;
const TRANSFERS: i64 = 400;
const KILLS: u32 = 5;

/// Somebody wants money to be moved.
#[event(topic = "transfer.requested", key = number)]
struct TransferRequested {
    number: i64,
    from: i64,
    to: i64,
    cents: i64,
}

/// It was.
#[event(topic = "transfer.booked", key = number)]
struct TransferBooked {
    number: i64,
}

/// What the ledger says in the end.
struct Sums {
    cents: i64,
    transfers: i64,
    different: i64,
    receipts: i64,
}

fn transfers() -> impl Iterator<Item = TransferRequested> {
    (0..TRANSFERS).map(|number| TransferRequested {
        number,
        from: number % ACCOUNTS,
        to: (number * 7 + 3) % ACCOUNTS,
        cents: 1 + (number * 7919) % 100_000,
    })
}

/// The same program as a worker.
fn worker(place: &str, broker: &Path) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.arg(place).env("EXAMPLE_BROKER", broker).spawn()?)
}

async fn supervise(place: &str, broker: &Path) -> Result<()> {
    for _ in 0..KILLS {
        let mut child = worker(place, broker)?;
        // Long enough to book some, most often, and too short for all.
        tokio::time::sleep(Duration::from_millis(250)).await;
        child.kill()?;
        child.wait()?;
        println!("a worker was killed");
    }
    let ended = worker(place, broker)?.wait()?;
    assert!(ended.success(), "the last worker failed: {ended}");
    println!("a worker finished");
    Ok(())
}

fn tell_wished() {
    println!("{TRANSFERS} transfers are wished for");
}

fn tell(sums: &Sums) {
    assert_eq!(sums.transfers, sums.different, "a transfer was booked twice");
    println!("{} transfers are booked, each once; {} receipts followed", sums.transfers, sums.receipts);
    println!("the accounts hold {}.{:02} as before", sums.cents / 100, sums.cents % 100);
    assert_eq!((sums.cents, sums.transfers, sums.receipts), (ACCOUNTS * CENTS_EACH, TRANSFERS, TRANSFERS));
}

#[tokio::main]
async fn main() -> Result<()> {
    let place = std::env::args().nth(1);
    let broker = std::env::var_os("EXAMPLE_BROKER").map(PathBuf::from);
    match (place, broker) {
        #[cfg(feature = "postgres")]
        (Some(place), Some(broker)) if place.starts_with("postgres") => postgres::work(&place, &broker).await,
        (Some(place), Some(broker)) => sqlite::work(&place, &broker).await,
        (place, _) => {
            let folder = std::env::temp_dir().join(format!("abe-events-example-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let ledger = folder.join("ledger.db").display().to_string();
            let (place, broker) = (place.unwrap_or(ledger), folder.join("broker.db"));
            let sums = match () {
                #[cfg(feature = "postgres")]
                () if place.starts_with("postgres") => postgres::run(&place, &broker).await,
                () => sqlite::run(&place, &broker).await,
            };
            std::fs::remove_dir_all(&folder)?;
            tell(&sums?);
            Ok(())
        }
    }
}
