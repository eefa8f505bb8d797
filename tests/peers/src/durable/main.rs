//! abe-events beside its durable peers: the same payload, the same count, groups of the same size, one server, one run.
//!
//! ```text
//! cargo run --release --bin durable            SQLite, and PostgreSQL where it is installed
//! cargo run --release --bin durable -- short   fewer rounds
//! ```
//!
//! Nothing of ours is tuned. The peers have the settings for throughput of their own examples, which are told where they are
//! set. Each keeps its jobs in its own way, and some keep more of a job than we do of an event: what is compared is what a
//! user waits for, the time from the first publish to the end of the last handler.

mod by_hand;
mod contest;
mod graphile;
mod order;
mod ours;
#[path = "../../../bench/report.rs"]
#[allow(dead_code, reason = "shared with the durable benchmarks, of which each uses a part")]
mod report;
#[path = "../../../support/postgres.rs"]
mod server;
mod tasks;

use std::path::Path;

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use self::by_hand::ByHand;
use self::contest::{Rates, turn};
use self::graphile::Graphile;
use self::ours::Ours;
use self::report::{Report, ratios, say};
use self::server::Server;
use self::tasks::{ApalisPostgres, ApalisSqlite};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many go before the measured ones.
const WARM_UP: u64 = 200;

/// The time of apalis-sqlite grows with the square of what waits: more would be a measure of that.
const SQLITE: u64 = 2_000;
const POSTGRES: u64 = 20_000;

const TOGETHER: &str = "abe-events, a handler that takes up to 500 together";

/// All rounds of one contestant.
#[derive(Default)]
struct Rounds {
    through: Vec<f64>,
    published: Vec<f64>,
    backlog: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, rates: Rates) {
        self.through.push(rates.through);
        self.published.push(rates.published);
        self.backlog.push(rates.backlog);
    }

    fn print(&self, report: &Report, name: &str) {
        report.rate(name, "/s", &self.through);
        report.rate("    published while nobody works", "/s", &self.published);
        report.rate("    a backlog, by a worker that starts", "/s", &self.backlog);
    }

    /// As multiples of a peer.
    fn beside(&self, peer: &Self, report: &mut Report, id: &str, what: &str) {
        report.compare(id, &format!("{what}: publish to handled, for comparison"), &ratios(&self.through, &peer.through));
        report.compare(id, &format!("{what}: a backlog, for comparison"), &ratios(&self.backlog, &peer.backlog));
    }
}

async fn sqlite(folder: &Path, rounds: usize) -> Result {
    let mut report = Report::new("SQLite: ours with synchronous=FULL, apalis-sqlite with OFF");
    let [mut ours, mut together, mut apalis] = std::array::from_fn(|_| Rounds::default());
    for round in 0..rounds {
        let url = |name: &str| format!("sqlite://{}", folder.join(format!("{name}-{round}.db")).display());
        ours.add(turn(Ours::new(url("ours"), false).await?, SQLITE).await?);
        together.add(turn(Ours::new(url("together"), true).await?, SQLITE).await?);
        let file = SqliteConnectOptions::new().filename(folder.join(format!("apalis-{round}.db"))).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(file).await?;
        apalis.add(turn(ApalisSqlite::new(pool).await?, SQLITE).await?);
    }
    ours.print(&report, &format!("abe-events, {SQLITE} events, one at a time"));
    together.print(&report, TOGETHER);
    apalis.print(&report, "apalis-sqlite 1.0");
    let what = "SQLite, 500 together, to apalis-sqlite";
    report.at_least("P7", &format!("{what}: publish to handled"), &ratios(&together.through, &apalis.through), 30.0);
    ours.beside(&apalis, &mut report, "P7", "SQLite, one at a time, to apalis-sqlite");
    report.end();
    Ok(())
}

async fn postgres(server: &Server, rounds: usize) -> Result {
    let mut report = Report::new("PostgreSQL, fsync and synchronous_commit on");
    let [mut ours, mut together, mut by_hand, mut apalis, mut graphile] = std::array::from_fn(|_| Rounds::default());
    for round in 0..rounds {
        let database = |name: &str| server.database(&format!("{name}_{round}"));
        ours.add(turn(Ours::new(database("ours"), false).await?, POSTGRES).await?);
        together.add(turn(Ours::new(database("together"), true).await?, POSTGRES).await?);
        let pool = async |name| PgPoolOptions::new().max_connections(20).connect(&database(name)).await;
        by_hand.add(turn(ByHand::new(pool("by_hand").await?).await?, POSTGRES).await?);
        apalis.add(turn(ApalisPostgres::new(pool("apalis").await?).await?, POSTGRES).await?);
        graphile.add(turn(Graphile::new(database("graphile")).await?, POSTGRES).await?);
    }
    ours.print(&report, &format!("abe-events, {POSTGRES} events, one at a time"));
    together.print(&report, TOGETHER);
    by_hand.print(&report, "a lease cycle by hand, 500 at a time");
    apalis.print(&report, "apalis-postgres 1.0");
    graphile.print(&report, "graphile_worker 0.14");
    for (peer, name, budget) in [(&apalis, "apalis-postgres", 6.0), (&graphile, "graphile_worker", 4.0)] {
        let what = format!("PostgreSQL, 500 together, to {name}: publish to handled");
        report.at_least("P8", &what, &ratios(&together.through, &peer.through), budget);
        ours.beside(peer, &mut report, "P8", &format!("PostgreSQL, one at a time, to {name}"));
        by_hand.beside(peer, &mut report, "P8", &format!("PostgreSQL, the cycle by hand, to {name}"));
    }
    report.end();
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result {
    let rounds = if std::env::args().any(|argument| argument == "short") { 1 } else { 5 };
    let folder = std::env::temp_dir().join(format!("abe-events-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let ended = sqlite(&folder, rounds).await;
    std::fs::remove_dir_all(&folder)?;
    ended?;
    match Server::find() {
        Some(server) => postgres(&server, rounds).await,
        None => {
            say("PostgreSQL is not installed: its rows are left out");
            Ok(())
        }
    }
}
