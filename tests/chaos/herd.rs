//! The child processes of a run, and what was done to each: the checker asks.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::history::{self, Line, Stored};
use crate::support::{Result, now};
use crate::worker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Publisher,
    /// Both in one process, a fixed run.
    Script,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Publisher => "publisher",
            Self::Script => "script",
        }
    }
}

/// What was done to a process.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) process: u32,
    pub(crate) role: Role,
    pub(crate) killed: Option<u64>,
    /// How often it was stopped for longer than a lease, or lost its server.
    pub(crate) stops: u32,
    /// Leases it lost, as far as it said.
    pub(crate) leases_lost: u64,
}

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: u32,
    pub(crate) role: Role,
    child: Child,
    /// Until when it is stopped.
    pub(crate) stopped: Option<Instant>,
}

/// How a run's processes are started.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
    pub(crate) lease: Duration,
    pub(crate) seed: u64,
    /// Where workers write the effects of `once`, if anywhere.
    pub(crate) ledger: Option<&'static str>,
    /// What the processes are started by, such as a tracer; empty for nothing.
    pub(crate) wrap: Vec<String>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Herd {
    pub(crate) setting: Setting,
    pub(crate) running: Vec<Running>,
    pub(crate) fates: Vec<Fate>,
    /// Processes that ended as they should not.
    pub(crate) faults: Vec<String>,
    next: u32,
    /// Events of publishers that have ended, as far as they were stored.
    stored: u64,
}

impl Drop for Herd {
    fn drop(&mut self) {
        for running in &mut self.running {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl Herd {
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, running: Vec::new(), fates: Vec::new(), faults: Vec::new(), next: 0, stored: 0 }
    }

    /// Starts a process; publishers are told how many events they publish, and from which number on they are counted.
    pub(crate) fn start(&mut self, role: Role, count: u32, from: u32) -> Result<u32> {
        let process = self.next + from;
        self.next += 1;
        let setting = &self.setting;
        let mut words = setting.wrap.clone();
        words.push(std::env::current_exe()?.display().to_string());
        let program = words.remove(0);
        let child = Command::new(program)
            .args(words)
            .args(["--role", role.word()])
            .args(["--folder".as_ref(), setting.folder.as_os_str()])
            .args(["--url", &setting.url])
            .args(["--process", &process.to_string()])
            .args(["--lease-ms", &setting.lease.as_millis().to_string()])
            .args(["--events", &count.to_string()])
            .args(["--seed", &(setting.seed ^ u64::from(process)).to_string()])
            .args(setting.ledger.into_iter().flat_map(|ledger| ["--ledger", ledger]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.fates.push(Fate { process, role, killed: None, stops: 0, leases_lost: 0 });
        self.running.push(Running { process, role, child, stopped: None });
        Ok(process)
    }

    pub(crate) fn count(&self, role: Role) -> usize {
        self.running.iter().filter(|running| running.role == role).count()
    }

    /// The places of those in a role that are not stopped.
    pub(crate) fn awake(&self, role: Role) -> Vec<usize> {
        let awake = |running: &Running| running.role == role && running.stopped.is_none();
        self.running.iter().enumerate().filter(|(_, running)| awake(running)).map(|(at, _)| at).collect()
    }

    fn fate(&mut self, process: u32) -> Option<&mut Fate> {
        self.fates.iter_mut().find(|fate| fate.process == process)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) -> Result {
        let mut running = self.running.swap_remove(at);
        running.child.kill()?;
        let ended = running.child.wait()?;
        let killed = now();
        if ended.success() {
            // It had ended before.
            return self.ended(&running, ended);
        }
        self.gone(&running)?;
        self.died(running.process, killed);
        Ok(())
    }

    /// Notes when a process died that did not end as others do.
    pub(crate) fn died(&mut self, process: u32, at: u64) {
        if let Some(fate) = self.fate(process) {
            fate.killed = Some(at);
        }
    }

    fn signal(&self, at: usize, signal: &str) -> Result {
        let pid = self.running[at].child.id().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("kill -{signal} {pid}: {sent}").into()) }
    }

    /// SIGSTOP: for that long the process neither runs nor renews anything.
    pub(crate) fn stop(&mut self, at: usize, time: Duration) -> Result {
        self.signal(at, "STOP")?;
        self.running[at].stopped = Some(Instant::now() + time);
        let process = self.running[at].process;
        let long = time > self.setting.lease;
        if let Some(fate) = self.fate(process) {
            fate.stops += u32::from(long);
        }
        Ok(())
    }

    /// The server is about to die: what is on its way between it and the workers is lost, as if each had been stopped.
    pub(crate) fn lose_server(&mut self) {
        let running: Vec<u32> = self.running.iter().map(|running| running.process).collect();
        for process in running {
            if let Some(fate) = self.fate(process) {
                fate.stops += 1;
            }
        }
    }

    /// SIGCONT to those whose time has come, or to all.
    pub(crate) fn wake(&mut self, all: bool) -> Result {
        for at in 0..self.running.len() {
            if self.running[at].stopped.is_some_and(|until| all || until <= Instant::now()) {
                self.signal(at, "CONT")?;
                self.running[at].stopped = None;
            }
        }
        Ok(())
    }

    /// SIGTERM, and waits until the process has ended as it should.
    pub(crate) async fn terminate(&mut self, at: usize) -> Result {
        if worker::status(&self.setting.folder, self.running[at].process).is_none() {
            // It does not listen yet.
            return self.kill(at);
        }
        self.signal(at, "TERM")?;
        let mut running = self.running.swap_remove(at);
        let until = Instant::now() + worker::GRACE + Duration::from_secs(if self.setting.wrap.is_empty() { 5 } else { 30 });
        loop {
            if let Some(ended) = running.child.try_wait()? {
                return self.ended(&running, ended);
            }
            if Instant::now() > until {
                self.faults.push(format!("process {} did not stop within its grace time", running.process));
                running.child.kill()?;
                running.child.wait()?;
                return self.gone(&running);
            }
            // One that is stopped may hold what this one waits for.
            self.wake(false)?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Looks after those that have ended by themselves.
    pub(crate) fn reap(&mut self) -> Result<Vec<(Running, ExitStatus)>> {
        let mut gone = Vec::new();
        for at in (0..self.running.len()).rev() {
            if let Some(ended) = self.running[at].child.try_wait()? {
                gone.push((self.running.swap_remove(at), ended));
            }
        }
        Ok(gone)
    }

    /// A process ended by itself or on request.
    pub(crate) fn ended(&mut self, running: &Running, ended: ExitStatus) -> Result {
        if !ended.success() {
            self.faults.push(format!("process {} ended with {ended}", running.process));
        }
        self.gone(running)
    }

    /// Notes what a process left behind.
    pub(crate) fn gone(&mut self, running: &Running) -> Result {
        let leases_lost = worker::status(&self.setting.folder, running.process).map_or(0, |(_, lost, _)| lost);
        if let Some(fate) = self.fate(running.process) {
            fate.leases_lost = leases_lost;
        }
        if running.role == Role::Publisher {
            self.stored += self.stored_by(running.process)?;
        }
        Ok(())
    }

    fn stored_by(&self, process: u32) -> Result<u64> {
        let mut sum = 0;
        history::read(&self.setting.folder.join(format!("pub-{process}.log")), |line| {
            if let Line::Publish { stored: Stored::Yes, count, .. } = line {
                sum += u64::from(count);
            }
        })?;
        Ok(sum)
    }

    /// How many events were stored by publishers that have ended.
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }

    /// How much there is to do, as the workers that are awake say; `None` while none of them does.
    pub(crate) fn pending(&self) -> Option<u64> {
        let fresh = |(pending, _, at): (u64, u64, u64)| (now().saturating_sub(at) < 1_000_000_000).then_some(pending);
        let workers = self.running.iter().filter(|running| running.role == Role::Worker);
        workers.filter_map(|running| worker::status(&self.setting.folder, running.process).and_then(fresh)).max()
    }
}
