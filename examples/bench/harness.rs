//! Interleaved rounds: every contestant of a row once per round, in rotating order, in one process and one run.
//!
//! A figure alone says little on a machine that others use too. What is judged is the ratio to the row's first contestant
//! in the *same* round; of these the median counts, and best and worst are shown.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use tokio::runtime::{Builder, Runtime};

use crate::machine::Load;

/// How long one contestant may take for one round before the benchmark says that it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// One measured stretch of a contestant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) wall_ns: f64,
    pub(crate) cpu_ns: f64,
}

/// Wall and CPU time (of the whole process) of one stretch.
pub(crate) struct Stopwatch {
    wall: Instant,
    cpu: ProcessTime,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { cpu: ProcessTime::now(), wall: Instant::now() }
    }

    pub(crate) fn stop(self, messages: u64) -> Reading {
        let (wall, cpu) = (self.wall.elapsed(), self.cpu.elapsed());
        Reading { wall_ns: per(wall, messages), cpu_ns: per(cpu, messages) }
    }
}

fn per(time: Duration, messages: u64) -> f64 {
    time.as_nanos() as f64 / messages as f64
}

/// What coordinates a contestant, outside of the workers; its producers and consumers are tasks of their own.
pub(crate) type Running = Pin<Box<dyn Future<Output = Reading>>>;

/// A way to do the row's work; it sets itself up, warms up, and measures so many messages.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    run: Box<dyn Fn(u64) -> Running>,
}

impl Contestant {
    pub(crate) fn new<F: Future<Output = Reading> + 'static>(name: &'static str, run: impl Fn(u64) -> F + 'static) -> Self {
        Self { name, run: Box::new(move |messages| Box::pin(run(messages))) }
    }

    fn on(&self, scheduler: Scheduler, messages: u64) -> Reading {
        let runtime = scheduler.runtime();
        let reading = runtime.block_on(async { tokio::time::timeout(PATIENCE, (self.run)(messages)).await });
        runtime.shutdown_timeout(Duration::from_secs(5));
        match reading {
            Ok(reading) => reading,
            Err(_) => panic!("{} did not finish {messages} messages in {PATIENCE:?}", self.name),
        }
    }

    /// Allocations per message, counted on one thread; what is done once cancels out between a run and one twice as long.
    fn allocations(&self, messages: u64) -> f64 {
        let count = |messages| {
            allocation_counter::measure(|| {
                self.on(Scheduler::Current, messages);
            })
            .count_total as f64
        };
        (count(2 * messages) - count(messages)) / messages as f64
    }
}

/// Where tasks run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheduler {
    Workers(usize),
    Current,
}

impl Scheduler {
    fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::Workers(workers) => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(workers);
                builder
            }
            Self::Current => Builder::new_current_thread(),
        };
        builder.enable_all().build().unwrap_or_else(|error| panic!("no tokio runtime: {error}"))
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers(workers) => write!(f, "{workers} workers"),
            Self::Current => write!(f, "current thread"),
        }
    }
}

/// What a budget is about.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    Wall,
    Cpu,
}

/// A promise: this contestant costs at most so many times that one.
pub(crate) struct Budget {
    pub(crate) id: &'static str,
    pub(crate) contestant: &'static str,
    pub(crate) against: &'static str,
    pub(crate) figure: Figure,
    pub(crate) at_most: f64,
}

/// Contestants that do the same work.
pub(crate) struct Row {
    /// A word to choose it by.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) scheduler: Scheduler,
    pub(crate) messages: u64,
    /// What a figure is counted per.
    pub(crate) unit: &'static str,
    /// Whether allocations are counted: not where a contestant cannot run on one thread.
    pub(crate) counts_allocations: bool,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) budgets: Vec<Budget>,
}

impl Row {
    /// Runs one contestant once: for a profiler.
    pub(crate) fn run_one(&self, contestant: &str, messages: u64) -> Option<Reading> {
        Some(self.contestants.iter().find(|one| one.name.contains(contestant))?.on(self.scheduler, messages))
    }

    /// Runs all rounds, prints the row, and answers its verdicts.
    pub(crate) fn run(&self, rounds: usize, scale: u64) -> Vec<String> {
        let messages = (self.messages / scale).max(64);
        let load = Load::now();
        let mut readings: Vec<Vec<Reading>> = vec![Vec::new(); self.contestants.len()];
        for round in 0..rounds {
            for place in 0..self.contestants.len() {
                // Nobody always runs after the same neighbour.
                let index = (place + round) % self.contestants.len();
                readings[index].push(self.contestants[index].on(self.scheduler, messages));
            }
        }
        println!("\n{} · {} · {messages} per round × {rounds} rounds · others {:.0} %", self.title, self.scheduler, load.others());
        println!("  {:<46} {:>9} {:>9} {:>7}   {:<24} CPU ratio", "", "wall ns", "CPU ns", "allocs", "wall ratio (best–worst)");
        for (index, contestant) in self.contestants.iter().enumerate() {
            let allocations =
                if self.counts_allocations { format!("{:.2}", contestant.allocations(messages.min(20_000))) } else { "-".into() };
            let column = |figure| median(readings[index].iter().map(|reading| figure_of(reading, figure)).collect());
            println!(
                "  {:<46} {:>9.0} {:>9.0} {allocations:>7}   {:<24} {}",
                contestant.name,
                column(Figure::Wall),
                column(Figure::Cpu),
                Spread::of(&readings[index], &readings[0], Figure::Wall).to_string(),
                Spread::of(&readings[index], &readings[0], Figure::Cpu),
            );
        }
        self.budgets.iter().map(|budget| self.verdict(budget, &readings)).collect()
    }

    fn verdict(&self, budget: &Budget, readings: &[Vec<Reading>]) -> String {
        let of = |name: &str| match self.contestants.iter().position(|contestant| contestant.name == name) {
            Some(index) => &readings[index],
            None => panic!("row {} has no contestant {name}", self.key),
        };
        let spread = Spread::of(of(budget.contestant), of(budget.against), budget.figure);
        let verdict = match (spread.median <= budget.at_most, spread.low <= budget.at_most && budget.at_most <= spread.high) {
            (true, false) => "holds",
            (true, true) => "holds, within the spread",
            (false, false) => "MISSED",
            (false, true) => "MISSED, within the spread",
        };
        let figure = match budget.figure {
            Figure::Wall => "wall",
            Figure::Cpu => "CPU",
        };
        format!(
            "{} {:<14} {} per {}: {:.2}x of {} (budget {:.2}x): {verdict}",
            budget.id, self.key, figure, self.unit, spread.median, budget.against, budget.at_most
        )
    }
}

fn figure_of(reading: &Reading, figure: Figure) -> f64 {
    match figure {
        Figure::Wall => reading.wall_ns,
        Figure::Cpu => reading.cpu_ns,
    }
}

/// Ratios of the same rounds.
struct Spread {
    median: f64,
    best: f64,
    worst: f64,
    /// Half of all rounds lie between these.
    low: f64,
    high: f64,
}

impl Spread {
    fn of(ours: &[Reading], control: &[Reading], figure: Figure) -> Self {
        let mut ratios: Vec<f64> = ours
            .iter()
            .zip(control)
            .map(|(ours, control)| figure_of(ours, figure) / figure_of(control, figure).max(f64::MIN_POSITIVE))
            .collect();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        Self { median: median(ratios.clone()), best: ratios[0], worst: ratios[last], low: ratios[last / 4], high: ratios[last - last / 4] }
    }

    fn is_control(&self) -> bool {
        self.best == 1.0 && self.worst == 1.0
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_control() {
            return f.pad("1.00");
        }
        // Rounds on both sides of 1: no difference is claimed.
        let mark = if self.low <= 1.0 && 1.0 <= self.high { " ≈" } else { "" };
        f.pad(&format!("{:.2} ({:.2}–{:.2}){mark}", self.median, self.best, self.worst))
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
