//! Random faults on processes that share a broker: kills, zombies, rolling restarts, a file that is kept locked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::checker::{Evidence, Findings, check};
use crate::herd::{Herd, Role, Setting};
use crate::report::Row;
use crate::support::{Result, say};
use crate::target::Target;
use crate::worker::PAUSE;

/// How long a delivery may stay unsettled: short, so that a run sees many leases end.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// How many events may wait before publishers do, and how few before they go on.
const BACKLOG_MAX: u64 = 30_000;
const BACKLOG_MIN: u64 = 10_000;

/// Within what time everything is handled once faults have ended.
const HEALING_MAX: Duration = Duration::from_secs(60);

const PUBLISHERS: usize = 2;

/// How many events a publisher process publishes before it makes room for the next.
const SHARE: u64 = 50_000;

/// What was done so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) worker_kills: u64,
    pub(crate) publisher_kills: u64,
    pub(crate) zombies: u64,
    pub(crate) restarts: u64,
    pub(crate) locks: u64,
}

/// A folder of a run's own.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("abe-events-chaos-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

struct Campaign<'a> {
    args: &'a Args,
    herd: Herd,
    target: Target,
    folder: PathBuf,
    random: fastrand::Rng,
    faults: Faults,
    began: Instant,
    paused: bool,
}

/// Runs until so many events are stored and so many workers killed, heals, waits, checks.
pub(crate) async fn run(args: &Args) -> Result<Row> {
    let folder = folder("kills")?;
    let target = Target::sqlite(&folder);
    let setting = Setting { folder: folder.clone(), url: target.url(), lease: LEASE, seed: args.seed, wrap: Vec::new() };
    let mut campaign = Campaign {
        args,
        herd: Herd::new(setting),
        target,
        folder: folder.clone(),
        random: fastrand::Rng::with_seed(args.seed),
        faults: Faults::default(),
        began: Instant::now(),
        paused: false,
    };
    let row = campaign.run().await;
    if !args.keep && row.as_ref().is_ok_and(|row| row.is_clean()) {
        std::fs::remove_dir_all(&folder)?;
    } else {
        say(format!("what this run left behind is in {}", folder.display()));
    }
    row
}

impl Campaign<'_> {
    async fn run(&mut self) -> Result<Row> {
        // The subscriptions exist before the first publish.
        self.herd.start(Role::Worker, 0, 0)?;
        while self.herd.pending().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while !self.is_enough() && self.began.elapsed() < self.args.limit {
            self.keep_up()?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(50..900))).await;
            self.fault().await?;
        }
        let finished = self.is_enough();
        let healed = self.heal().await?;
        let duration = self.began.elapsed();
        let letters = self.target.letters(&self.folder).await?;
        let evidence = Evidence {
            fates: self.herd.fates.clone(),
            letters,
            accepted: Some(self.target.accepted()?),
            settle_failures: settle_failures(&self.folder)?,
        };
        let checking = Instant::now();
        let mut findings = check(&self.folder, &evidence)?;
        say(format!("checked {} runs in {:.1?}", findings.runs, checking.elapsed()));
        self.judge(&mut findings, healed, finished)?;
        Ok(Row { name: "sqlite kill -9".into(), faults: self.faults, findings, duration, seed: self.args.seed, extra: String::new() })
    }

    fn is_enough(&self) -> bool {
        self.herd.stored() >= self.args.events && self.faults.worker_kills >= self.args.kills
    }

    /// Starts what is missing, wakes what has slept enough, and holds publishers back when much waits.
    fn keep_up(&mut self) -> Result {
        for (running, ended) in self.herd.reap()? {
            self.herd.ended(&running, ended)?;
        }
        self.herd.wake(false)?;
        while self.herd.count(Role::Worker) < self.args.workers {
            self.herd.start(Role::Worker, 0, 0)?;
        }
        let more = self.herd.stored() < self.args.events || self.faults.worker_kills < self.args.kills;
        while more && self.herd.count(Role::Publisher) < PUBLISHERS {
            let count = SHARE.min(self.args.events / 4 + 1);
            self.herd.start(Role::Publisher, u32::try_from(count)?, 0)?;
        }
        if let Some(pending) = self.herd.pending() {
            let pause = if self.paused { pending > BACKLOG_MIN } else { pending > BACKLOG_MAX };
            if pause && !self.paused {
                std::fs::write(self.folder.join(PAUSE), "")?;
            } else if !pause && self.paused {
                std::fs::remove_file(self.folder.join(PAUSE))?;
            }
            self.paused = pause;
        }
        Ok(())
    }

    async fn fault(&mut self) -> Result {
        let dice = self.random.u32(0..100);
        let role = if (70..85).contains(&dice) { Role::Publisher } else { Role::Worker };
        let awake = self.herd.awake(role);
        let Some(at) = self.random.choice(&awake).copied() else { return Ok(()) };
        match dice {
            0..70 => {
                self.faults.worker_kills += 1;
                self.herd.kill(at)
            }
            70..85 => {
                self.faults.publisher_kills += 1;
                self.herd.kill(at)
            }
            // Somebody has to stay awake.
            85..92 if awake.len() > 1 => {
                self.faults.zombies += 1;
                let time = LEASE + Duration::from_millis(self.random.u64(100..1_500));
                self.herd.stop(at, time)
            }
            92..97 => {
                self.faults.restarts += 1;
                self.herd.terminate(at).await
            }
            _ => {
                self.faults.locks += 1;
                self.keep_locked().await
            }
        }
    }

    /// Another process keeps the file locked, sometimes for longer than the broker waits.
    async fn keep_locked(&mut self) -> Result {
        let time = Duration::from_millis(if self.random.u32(0..4) == 0 { 6_000 } else { self.random.u64(200..2_500) });
        let connection = self.target.open()?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        tokio::time::sleep(time).await;
        Ok(connection.execute_batch("ROLLBACK")?)
    }

    /// Ends all faults, waits until nothing is pending, and stops; says whether that came to an end in time.
    async fn heal(&mut self) -> Result<bool> {
        self.herd.wake(true)?;
        for at in self.herd.awake(Role::Publisher).into_iter().rev() {
            self.faults.publisher_kills += 1;
            self.herd.kill(at)?;
        }
        let healing = Instant::now();
        let mut quiet = 0;
        while quiet < 20 && healing.elapsed() < HEALING_MAX {
            for (running, ended) in self.herd.reap()? {
                self.herd.ended(&running, ended)?;
            }
            while self.herd.count(Role::Worker) < 2 {
                self.herd.start(Role::Worker, 0, 0)?;
            }
            quiet = if self.herd.pending() == Some(0) { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while let Some(at) = self.herd.awake(Role::Worker).pop() {
            self.herd.terminate(at).await?;
        }
        Ok(quiet >= 20)
    }

    fn judge(&mut self, findings: &mut Findings, healed: bool, finished: bool) -> Result {
        if !healed {
            findings.wrong("liveness", || format!("not everything was handled within {HEALING_MAX:?} of the last fault"));
        }
        if !finished {
            let stored = findings.stored;
            say(format!("the time was over at {stored} events and {} kills", self.faults.worker_kills));
        }
        for fault in std::mem::take(&mut self.herd.faults) {
            findings.wrong("process", || fault);
        }
        for fault in self.target.faults()? {
            findings.wrong("file", || fault);
        }
        Ok(())
    }
}

/// Verdicts that could not be carried out, as the workers' logs say: what they were for may run again.
pub(crate) fn settle_failures(folder: &Path) -> Result<u64> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("log-") {
            let text = std::fs::read_to_string(entry.path())?;
            count += text.matches("verdict not carried out").count() as u64;
        }
    }
    Ok(count)
}
