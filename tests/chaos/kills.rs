//! Random faults on processes that share a broker: kills, zombies, rolling restarts, a file that is kept locked.

use std::time::Duration;

use crate::args::Args;
use crate::herd::Role;
use crate::report::Row;
use crate::scene::Scene;
use crate::support::{Result, say};
use crate::worker::PAUSE;

/// How long a delivery may stay unsettled: short, so that a run sees many leases end.
const LEASE: Duration = Duration::from_secs(2);

/// How many events may wait before publishers do, and how few before they go on.
const BACKLOG_MAX: u64 = 30_000;
const BACKLOG_MIN: u64 = 10_000;

const PUBLISHERS: usize = 2;

/// How many events a publisher process publishes at most before it makes room for the next.
const SHARE: u64 = 50_000;

/// What may be done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    KillPublisher,
    Zombie,
    Restart,
    Lock,
}

struct Campaign<'a> {
    args: &'a Args,
    scene: Scene,
    random: fastrand::Rng,
    paused: bool,
}

/// Runs until so many events are stored and so many workers killed, heals, waits, checks.
pub(crate) async fn run(args: &Args) -> Result<Row> {
    let scene = Scene::sqlite("kills", args, LEASE)?;
    let mut campaign = Campaign { args, scene, random: fastrand::Rng::with_seed(args.seed), paused: false };
    campaign.run().await?;
    campaign.scene.end("SQLite, random faults".into()).await
}

impl Campaign<'_> {
    async fn run(&mut self) -> Result {
        self.scene.first_worker().await?;
        while !self.is_enough() {
            if self.scene.began.elapsed() > self.args.limit {
                say(format!("the time was over at {} events and {} kills", self.scene.herd.stored(), self.scene.faults.worker_kills));
                break;
            }
            self.keep_up()?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(50..900))).await;
            self.fault().await?;
        }
        self.scene.heal().await
    }

    fn is_enough(&self) -> bool {
        let faults = &self.scene.faults;
        let done = match self.args.only.as_deref() {
            Some("zombies") => faults.zombies,
            Some("restarts") => faults.restarts,
            _ => faults.worker_kills,
        };
        self.scene.herd.stored() >= self.args.events && done >= self.args.kills
    }

    /// Starts what is missing, wakes what has slept enough, and holds publishers back when much waits.
    fn keep_up(&mut self) -> Result {
        self.scene.reap()?;
        self.scene.herd.wake(false)?;
        self.scene.workers(self.args.workers)?;
        while self.scene.herd.count(Role::Publisher) < PUBLISHERS {
            let count = SHARE.min(self.args.events / 4 + 1);
            self.scene.herd.start(Role::Publisher, u32::try_from(count)?, 0)?;
        }
        let Some(pending) = self.scene.herd.pending() else { return Ok(()) };
        let (pause, file) = (pending > if self.paused { BACKLOG_MIN } else { BACKLOG_MAX }, self.scene.folder.join(PAUSE));
        if pause && !self.paused {
            std::fs::write(file, "")?;
        } else if !pause && self.paused {
            std::fs::remove_file(file)?;
        }
        self.paused = pause;
        Ok(())
    }

    /// What is done next.
    fn draw(&mut self) -> Fault {
        match (self.args.only.as_deref(), self.random.u32(0..100)) {
            (Some("kills"), _) | (None, 0..70) => Fault::Kill,
            (Some("zombies"), _) | (None, 85..92) => Fault::Zombie,
            (Some("restarts"), _) | (None, 92..97) => Fault::Restart,
            (_, 70..85) => Fault::KillPublisher,
            _ => Fault::Lock,
        }
    }

    async fn fault(&mut self) -> Result {
        let fault = self.draw();
        let awake = self.scene.herd.awake(if fault == Fault::KillPublisher { Role::Publisher } else { Role::Worker });
        let Some(at) = self.random.choice(&awake).copied() else { return Ok(()) };
        let (faults, herd) = (&mut self.scene.faults, &mut self.scene.herd);
        match fault {
            Fault::Kill => {
                faults.worker_kills += 1;
                herd.kill(at)
            }
            Fault::KillPublisher => {
                faults.publisher_kills += 1;
                herd.kill(at)
            }
            Fault::Zombie if awake.len() > 1 => {
                faults.zombies += 1;
                herd.stop(at, LEASE + Duration::from_millis(self.random.u64(100..1_500)))
            }
            // Somebody has to stay awake.
            Fault::Zombie => Ok(()),
            Fault::Restart => {
                faults.restarts += 1;
                herd.terminate(at).await
            }
            Fault::Lock => self.keep_locked().await,
        }
    }

    /// Another process keeps the file locked, sometimes for longer than the broker waits.
    async fn keep_locked(&mut self) -> Result {
        let time = Duration::from_millis(if self.random.u32(0..4) == 0 { 6_000 } else { self.random.u64(200..2_500) });
        let connection = self.scene.target.open()?;
        connection.busy_timeout(Duration::from_millis(300))?;
        if connection.execute_batch("BEGIN IMMEDIATE").is_err() {
            // A stopped process may hold it, and would not be woken while this one waits.
            return Ok(());
        }
        self.scene.faults.locks += 1;
        tokio::time::sleep(time).await;
        Ok(connection.execute_batch("ROLLBACK")?)
    }
}
