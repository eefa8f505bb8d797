//! Events that take their process along, among many that do no harm.

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::herd::Role;
use crate::report::Row;
use crate::scene::Scene;
use crate::story::{DEADLY, DEADLY_FROM, Fate, Mark};
use crate::support::Result;

/// How many events: two of them kill.
const EVENTS: u32 = 1_100;

const LEASE: Duration = Duration::from_millis(600);

/// How long it may take; each start of a deadly event costs a lease and a restart.
const TIME_MAX: Duration = Duration::from_secs(60);

/// How many workers the two may take along: ten each, and some that were killed while they only looked on.
const DEATHS_MAX: u64 = 24;

/// How many attempts one may have that does no harm. Two may end beside a deadly one; then it runs alone, unless its process
/// dies while it is on its way back.
const BESIDE_MAX: u32 = 5;

/// Workers die of the two, again and again, until those are dead letters; all others are handled.
pub(crate) async fn run(args: &Args) -> Result<Row> {
    let mut scene = Scene::sqlite("deadly", args, LEASE)?;
    scene.dying = true;
    scene.first_worker().await?;
    scene.herd.start(Role::Publisher, EVENTS, DEADLY_FROM)?;
    let began = Instant::now();
    while scene.herd.count(Role::Publisher) > 0 || scene.herd.pending() != Some(0) {
        if began.elapsed() >= TIME_MAX || scene.faults.worker_kills > DEATHS_MAX {
            scene.wrong.push(("deadly", format!("still alive after {:?} and {} deaths", began.elapsed(), scene.faults.worker_kills)));
            break;
        }
        scene.reap()?;
        scene.workers(1)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if scene.wrong.is_empty() {
        scene.heal().await?;
    }
    let letters = scene.target.letters(&scene.folder).await?;
    let deadly = |mark: &Mark| mark.fate() == Fate::Kills;
    let buried: Vec<Mark> = letters.iter().filter(|letter| letter.subscription == DEADLY).map(|letter| letter.mark).collect();
    if buried.len() != 2 || !buried.iter().all(deadly) {
        scene.wrong.push(("deadly", format!("dead letters: {buried:?}")));
    }
    let mut row = scene.end("SQLite, deadly events".into()).await?;
    let beside = row.findings.beside;
    if beside > BESIDE_MAX {
        row.findings.wrong("deadly", || format!("one that does no harm had {beside} attempts"));
    }
    Ok(Row { extra: "2 deadly events".into(), ..row })
}
