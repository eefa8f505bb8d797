//! What all scenes share: a folder, a herd on a broker, the healing at the end, and the check.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::checker::{Evidence, check};
use crate::herd::{Herd, Role, Setting};
use crate::report::{Faults, Row};
use crate::support::{Result, now, say};
use crate::target::Target;

/// A scene under way.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) herd: Herd,
    pub(crate) target: Target,
    pub(crate) folder: PathBuf,
    pub(crate) faults: Faults,
    pub(crate) seed: u64,
    pub(crate) began: Instant,
    /// How many looks in a row have to find nothing pending.
    pub(crate) looks: u32,
    /// Whether a worker that dies by itself does what it should.
    pub(crate) dying: bool,
    /// What did not go as it should, beside what the history tells.
    pub(crate) wrong: Vec<(&'static str, String)>,
    healing: Duration,
    keep: bool,
}

/// A folder of a run's own.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let number = fastrand::u32(..);
    let folder = std::env::temp_dir().join(format!("abe-events-chaos-{name}-{}-{number:08x}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

impl Scene {
    /// A scene on a fresh SQLite file, in a folder of its own.
    pub(crate) fn sqlite(name: &'static str, args: &Args, lease: Duration) -> Result<Self> {
        let folder = folder(name)?;
        let target = Target::sqlite(&folder);
        Ok(Self::on(name, folder, target, args, lease))
    }

    pub(crate) fn on(name: &'static str, folder: PathBuf, target: Target, args: &Args, lease: Duration) -> Self {
        let setting = Setting { folder: folder.clone(), url: target.url(), lease, seed: args.seed, ledger: None, wrap: Vec::new() };
        Self {
            name,
            herd: Herd::new(setting),
            target,
            folder,
            faults: Faults::default(),
            seed: args.seed,
            began: Instant::now(),
            looks: 20,
            dying: false,
            wrong: Vec::new(),
            healing: args.healing,
            keep: args.keep,
        }
    }

    /// A first worker, so that the subscriptions exist before the first publish.
    pub(crate) async fn first_worker(&mut self) -> Result {
        self.herd.start(Role::Worker, 0, 0)?;
        while self.herd.pending().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The same, with a ledger for the workers that follow.
    pub(crate) async fn first_worker_with_ledger(&mut self) -> Result {
        self.first_worker().await?;
        self.herd.setting.ledger = Some(self.target.make_ledger()?);
        // The first one has none: what it handled would have no effect.
        let first = self.herd.awake(Role::Worker).pop().unwrap_or(0);
        self.herd.terminate(first).await
    }

    /// Starts workers until there are so many.
    pub(crate) fn workers(&mut self, count: usize) -> Result {
        while self.herd.count(Role::Worker) < count {
            self.herd.start(Role::Worker, 0, 0)?;
        }
        Ok(())
    }

    /// Looks after processes that have ended by themselves.
    pub(crate) fn reap(&mut self) -> Result {
        for (running, ended) in self.herd.reap()? {
            if self.dying && running.role == Role::Worker && !ended.success() {
                self.faults.worker_kills += 1;
                self.herd.gone(&running)?;
                self.herd.died(running.process, now());
            } else {
                self.herd.ended(&running, ended)?;
            }
        }
        Ok(())
    }

    /// Ends all faults, waits until nothing is pending, and stops everything.
    pub(crate) async fn heal(&mut self) -> Result {
        self.herd.wake(true)?;
        for at in self.herd.awake(Role::Publisher).into_iter().rev() {
            self.faults.publisher_kills += 1;
            self.herd.kill(at)?;
        }
        let (healing, mut quiet) = (Instant::now(), 0);
        while quiet < self.looks && healing.elapsed() < self.healing {
            self.reap()?;
            self.workers(2)?;
            quiet = if self.herd.pending() == Some(0) { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if quiet < self.looks {
            self.wrong.push(("liveness", format!("not everything was handled within {:?} of the last fault", self.healing)));
        }
        while let Some(at) = self.herd.awake(Role::Worker).pop() {
            self.herd.terminate(at).await?;
        }
        Ok(())
    }

    /// Checks what was done, and cleans up where nothing is wrong.
    pub(crate) async fn end(mut self, label: String) -> Result<Row> {
        let duration = self.began.elapsed();
        let letters = self.target.letters(&self.folder).await?;
        let evidence = Evidence {
            fates: self.herd.fates.clone(),
            letters,
            effects: self.herd.setting.ledger.map(|_| self.target.effects()).transpose()?,
            accepted: self.target.accepted()?,
            settle_failures: log_lines(&self.folder, "verdict not carried out")?,
            unburied: log_lines(&self.folder, "dead letter not stored")?,
        };
        let mut findings = check(&self.folder, &evidence)?;
        for fault in std::mem::take(&mut self.herd.faults) {
            findings.wrong("process", || fault);
        }
        for fault in self.target.faults()? {
            findings.wrong("file", || fault);
        }
        for (rule, sample) in std::mem::take(&mut self.wrong) {
            findings.wrong(rule, || sample);
        }
        if findings.is_clean() && !self.keep {
            std::fs::remove_dir_all(&self.folder)?;
        } else {
            say(format!("what {} left behind is in {}", self.name, self.folder.display()));
        }
        Ok(Row { name: label, faults: self.faults, findings, duration, seed: self.seed, extra: String::new() })
    }
}

/// How often the processes' logs say something.
fn log_lines(folder: &Path, text: &str) -> Result<u64> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("log-") {
            count += std::fs::read_to_string(entry.path())?.matches(text).count() as u64;
        }
    }
    Ok(count)
}
