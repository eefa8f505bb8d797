//! A scripted run that dies before each of its writes, or whose disk fails there: `strace` injects it.
//!
//! A dry run counts the calls of each thread; the scene then goes through them one by one, or through every k-th from
//! an offset that the seed says. After each the file is opened again, everything is handled, and all is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::args::Args;
use crate::herd::Role;
use crate::report::Row;
use crate::scene::Scene;
use crate::support::{Result, now, say};
use crate::target::Target;

const LEASE: Duration = Duration::from_millis(400);

/// How long a scripted run may take under a tracer.
const SCRIPT_MAX: Duration = Duration::from_secs(60);

/// How many points are tried at once: most of the time each waits for a lease.
const AT_ONCE: usize = 4;

/// What is done at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Dies,
    Fails,
    Full,
}

impl Blow {
    fn words(self) -> &'static str {
        match self {
            Self::Dies => "signal=SIGKILL",
            Self::Fails => "error=EIO",
            Self::Full => "error=ENOSPC",
        }
    }
}

/// A call, by name and number within its thread, and what is done there.
#[derive(Debug, Clone, Copy)]
struct Point {
    call: &'static str,
    number: u64,
    blow: Blow,
    /// Whether the file is made first, which is done by another thread, with a count of its own.
    fresh: bool,
}

/// How many calls there are: in the thread that makes the file, and in the one that writes to it.
#[derive(Debug, Default)]
struct Calls {
    making: BTreeMap<&'static str, u64>,
    writing: BTreeMap<&'static str, u64>,
    /// In the busiest of the store's own.
    beside: BTreeMap<&'static str, u64>,
}

/// Goes through the points; `None` where there is no tracer.
pub(crate) async fn run(args: &Args) -> Result<Option<Row>> {
    if !can_trace() {
        say("SKIPPED kill at every write: strace is missing, or may not trace");
        if std::env::var("CI").as_deref() == Ok("true") {
            return Err("strace is missing, and nothing may be skipped here".into());
        }
        return Ok(None);
    }
    let began = Instant::now();
    let template = Template::make().await?;
    let calls = match count(args).await? {
        Ok(calls) => calls,
        Err(wrong) => return Ok(Some(Row { name: "SQLite, script of 200".into(), ..wrong })),
    };
    let all = points(&calls);
    let offset = usize::try_from(args.seed % args.every as u64)?;
    let chosen: Vec<Point> = all.iter().copied().skip(args.first + offset).step_by(args.every).collect();
    say(format!("{calls:?}: {} points, {} of them tried", all.len(), chosen.len()));
    let (mut sum, mut tried): (Option<Row>, usize) = (None, 0);
    let trials = futures_util::stream::iter(chosen).map(|point| at(args, &template, point, began)).buffered(AT_ONCE);
    tokio::pin!(trials);
    while let Some(row) = trials.next().await {
        let Some(row) = row? else {
            say(format!("the time was over at point {} of {}", args.first + offset + tried * args.every, all.len()));
            break;
        };
        tried += 1;
        match &mut sum {
            None => sum = Some(row),
            Some(sum) => sum.add(row),
        }
    }
    let extra = format!("{tried} of {} points", all.len());
    Ok(sum.map(|sum| Row { name: "SQLite, script of 200".into(), duration: began.elapsed(), extra, ..sum }))
}

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    traced.is_ok_and(|ended| ended.success())
}

/// Every call of both threads: killed before each, failing at each.
fn points(calls: &Calls) -> Vec<Point> {
    let blows = [("pwrite64", Blow::Dies), ("fsync", Blow::Dies), ("fsync", Blow::Fails), ("pwrite64", Blow::Full)];
    let of = |(fresh, counts): (bool, &BTreeMap<&'static str, u64>)| {
        let of = |(call, blow): (&'static str, Blow)| {
            (1..=counts.get(call).copied().unwrap_or(0)).map(move |number| Point { call, number, blow, fresh })
        };
        // Calls are counted by thread: whoever tries again in a new one, as the store does, would fail for ever.
        let once =
            |point: &Point| point.blow == Blow::Dies || (!fresh && point.number > calls.beside.get(point.call).copied().unwrap_or(0));
        blows.into_iter().flat_map(of).filter(once).collect::<Vec<Point>>()
    };
    [(true, &calls.making), (false, &calls.writing)].into_iter().flat_map(of).collect()
}

/// Counts the calls of a run without a fault, or says what is wrong with it.
async fn count(args: &Args) -> Result<std::result::Result<Calls, Row>> {
    let mut scene = scene(args)?;
    let trace = scene.folder.join("trace.txt");
    script(&mut scene, tracer(&trace, &["-y", "-s", "12", "-e", "trace=pwrite64,fsync,write"])).await?;
    let text = std::fs::read_to_string(&trace)?;
    let unsynced = unsynced(&text);
    if unsynced.is_none_or(|count| count > 0) {
        scene.wrong.push(("unsynced", format!("{unsynced:?} publishes were answered before a sync")));
    }
    let mut threads: BTreeMap<String, BTreeMap<&'static str, u64>> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        if let Some(call) = ["pwrite64", "fsync"].into_iter().find(|call| rest.trim_start().starts_with(&format!("{call}("))) {
            *threads.entry(thread.to_owned()).or_default().entry(call).or_default() += 1;
        }
    }
    scene.heal().await?;
    let row = scene.end(String::new()).await?;
    if !row.is_clean() {
        return Ok(Err(row));
    }
    // The first thread makes the file; of the others the broker's writes most, and the store's are fewer in each.
    let mut threads: Vec<(u32, BTreeMap<&'static str, u64>)> = threads
        .into_iter()
        .filter(|(_, counts)| counts.len() == 2)
        .filter_map(|(thread, counts)| Some((thread.parse().ok()?, counts)))
        .collect();
    threads.sort_by_key(|(thread, _)| *thread);
    let mut threads = threads.into_iter().map(|(_, counts)| counts);
    let making = threads.next();
    let mut others: Vec<BTreeMap<&'static str, u64>> = threads.collect();
    others.sort_by_key(|counts| counts["pwrite64"]);
    match (making, others.pop()) {
        (Some(making), Some(writing)) => Ok(Ok(Calls { making, writing, beside: others.pop().unwrap_or_default() })),
        _ => Err("the file is written by one thread, or by other calls than are counted".into()),
    }
}

/// How many publishes were answered with no sync of the log between question and answer; `None` if none was answered.
pub(crate) fn unsynced(trace: &str) -> Option<u64> {
    let (mut syncs, mut asked, mut answered, mut unsynced) = (0_u64, 0_u64, 0_u64, 0_u64);
    for line in trace.lines() {
        let Some((_, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if call.starts_with("fsync(") && call.contains("-wal>") {
            syncs += 1;
        } else if call.starts_with("write(") && call.contains("pub-") {
            if call.contains(">, \"i ") {
                asked = syncs;
            } else if call.contains(">, \"o ") {
                answered += 1;
                unsynced += u64::from(syncs == asked);
            }
        }
    }
    (answered > 0).then_some(unsynced)
}

/// A folder with a file that is made and empty.
struct Template(PathBuf);

impl Template {
    async fn make() -> Result<Self> {
        let folder = crate::scene::folder("template")?;
        // A whole runtime, whose store has tables of its own.
        Target::sqlite(&folder).letters(&folder).await?;
        Ok(Self(folder))
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scene(args: &Args) -> Result<Scene> {
    let mut scene = Scene::sqlite("points", args, LEASE)?;
    scene.looks = 4;
    Ok(scene)
}

fn tracer(output: &Path, words: &[&str]) -> Vec<String> {
    let mut tracer: Vec<String> = ["strace", "-f", "-qq", "-o"].map(str::to_owned).into();
    tracer.push(output.display().to_string());
    tracer.extend(words.iter().map(|word| (*word).to_owned()));
    tracer
}

/// Runs the script to its end, whatever that is.
async fn script(scene: &mut Scene, tracer: Vec<String>) -> Result {
    scene.herd.setting.wrap = tracer;
    let process = scene.herd.start(Role::Script, 0, 0)?;
    let began = Instant::now();
    loop {
        let gone = scene.herd.reap()?;
        if let Some((running, ended)) = gone.into_iter().next() {
            scene.herd.gone(&running)?;
            if !ended.success() {
                scene.faults.worker_kills += 1;
                scene.herd.died(process, now());
            }
            break;
        }
        if began.elapsed() > SCRIPT_MAX {
            scene.wrong.push(("liveness", format!("the script did not end within {SCRIPT_MAX:?}")));
            scene.herd.kill(0)?;
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.herd.setting.wrap.clear();
    Ok(())
}

/// Tries a point; `None` when the time is over.
async fn at(args: &Args, template: &Template, point: Point, began: Instant) -> Result<Option<Row>> {
    if began.elapsed() > args.limit {
        return Ok(None);
    }
    let mut scene = scene(args)?;
    if !point.fresh {
        std::fs::copy(template.0.join("events.db"), scene.folder.join("events.db"))?;
    }
    let Point { call, number, blow, .. } = point;
    let inject = format!("inject={call}:{}:when={number}", blow.words());
    script(&mut scene, tracer(Path::new("/dev/null"), &["-e", &format!("trace={call}"), "-e", &inject])).await?;
    scene.heal().await?;
    let row = scene.end(String::new()).await?;
    for line in row.findings.lines() {
        say(format!("RED at {point:?}: {line}"));
    }
    Ok(Some(row))
}
