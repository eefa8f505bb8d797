//! What the figures were taken on, and how much of it others used meanwhile.

use std::process::Command;
use std::time::Instant;

use cpu_time::ProcessTime;

/// The machine in a few lines, for the top of the table.
pub(crate) fn describe() -> String {
    let cpu = proc_line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = Command::new("rustc").arg("-V").output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let profile = if cfg!(debug_assertions) { "DEBUG BUILD: figures mean nothing" } else { "release" };
    format!(
        "{cpu}, {cores} cores · {} {} · {} · {profile}",
        std::env::consts::OS,
        kernel.trim(),
        rustc.unwrap_or_else(|_| "rustc unknown".to_owned())
    )
}

fn proc_line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// How busy the machine is beside this process.
pub(crate) struct Load {
    busy_ticks: Option<u64>,
    cpu: ProcessTime,
    wall: Instant,
}

/// `/proc/stat` counts in hundredths of a second.
const TICK_SECONDS: f64 = 0.01;

impl Load {
    pub(crate) fn now() -> Self {
        Self { busy_ticks: busy_ticks(), cpu: ProcessTime::now(), wall: Instant::now() }
    }

    /// The share of all cores that other programs used since then, in percent; NaN where that cannot be known.
    pub(crate) fn others(&self) -> f64 {
        let (Some(before), Some(now)) = (self.busy_ticks, busy_ticks()) else { return f64::NAN };
        let busy = now.saturating_sub(before) as f64 * TICK_SECONDS;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let all = self.wall.elapsed().as_secs_f64() * cores;
        ((busy - self.cpu.elapsed().as_secs_f64()) / all * 100.0).clamp(0.0, 100.0)
    }
}

/// User, nice, system, interrupts and steal of all cores; not idle and not waiting for a disk.
fn busy_ticks() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    Some(fields.iter().enumerate().filter(|(index, _)| matches!(index, 0 | 1 | 2 | 5 | 6 | 7)).map(|(_, ticks)| ticks).sum())
}
