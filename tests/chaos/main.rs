//! The kill campaign: real runtimes in child processes that are killed, stopped and starved, and a checker of what they did.
//!
//! This binary is supervisor, worker, publisher and checker in one. `tests/campaign` runs it at length; without a command
//! it is a few seconds of that. Everything random comes from one seed, which is printed.

mod args;
mod checker;
mod deadly;
mod full;
mod handlers;
mod herd;
mod history;
mod kills;
mod points;
#[cfg(feature = "postgres")]
mod proxy;
mod report;
mod scene;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
mod story;
mod support;
mod target;
mod worker;

use std::process::ExitCode;

use crate::args::Args;
use crate::handlers::Ledger;
use crate::support::{Result, say};
use crate::worker::Orders;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format!("the campaign itself failed: {error}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let args = Args::read(std::env::args().skip(1))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(if args.role.is_some() { 2 } else { 4 }).enable_all().build()?;
    if let Some(role) = &args.role {
        let orders = orders(&args)?;
        return match role.as_str() {
            "worker" => runtime.block_on(worker::worker(orders)).map(|()| true),
            "script" => runtime.block_on(worker::script(orders)).map(|()| true),
            "publisher" => runtime.block_on(worker::publisher(orders)).map(|()| true),
            _ => Err(format!("no role is called {role}").into()),
        };
    }
    say(format!("seed {}", args.seed));
    let rows = runtime.block_on(scenes(&args))?;
    report::tell(&rows, args.table.as_deref())
}

async fn scenes(args: &Args) -> Result<Vec<report::Row>> {
    match args.command.as_str() {
        "kills" => Ok(vec![kills::on_sqlite(args).await?]),
        "postgres" => Ok(kills::on_postgres(args).await?.into_iter().collect()),
        "deadly" => Ok(vec![deadly::run(args).await?]),
        "points" => Ok(points::run(args).await?.into_iter().collect()),
        "full" => Ok(full::run(args).await?.into_iter().collect()),
        "smoke" => Ok(vec![kills::on_sqlite(&Args { events: 3_000, kills: 4, ..args.clone() }).await?]),
        "short" => {
            let mut rows = vec![kills::on_sqlite(&Args { events: 30_000, kills: 25, ..args.clone() }).await?, deadly::run(args).await?];
            rows.extend(full::run(args).await?);
            rows.extend(points::run(&Args { every: 101, ..args.clone() }).await?);
            Ok(rows)
        }
        command => Err(format!("there is no command {command}: smoke, short, kills, postgres, deadly, points, full").into()),
    }
}

fn orders(args: &Args) -> Result<Orders> {
    Ok(Orders {
        folder: args.folder.clone().ok_or("a child needs --folder")?,
        url: args.url.clone().ok_or("a child needs --url")?,
        process: args.process,
        lease: args.lease.ok_or("a child needs --lease-ms")?,
        count: u32::try_from(args.events)?,
        seed: args.seed,
        ledger: match args.ledger.as_deref() {
            None => Ledger::None,
            Some("sqlite") => Ledger::Sqlite,
            Some("postgres") => Ledger::Postgres,
            Some(other) => return Err(format!("there is no ledger on {other}").into()),
        },
    })
}
