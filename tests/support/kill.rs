//! `kill -9`, again and again, on processes that share one broker: nothing acknowledged is lost. Included by `#[path]`.
//!
//! The supervisor starts this binary again as a worker, which publishes, handles, retries and gives up, and keeps a synced
//! journal of what it was told. Workers are killed at random moments; at the end everything is drained and compared.
//! `ABE_KILLS` sets how many kills (20), `ABE_KILL_SEED` repeats a run.

#![allow(unreachable_pub, reason = "included from wherever it is needed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abe_events::broker::{Broker, Consumer, Delivery, Failure, FailureKind, Messages, Outgoing, Settlement, SubscriptionSpec, Verdict};
use abe_events::{Message, Name, Payload, Topic, TopicPattern};

/// How many processes there are.
pub const WORKERS: usize = 2;
const PUBLISHERS: usize = 4;
const IN_FLIGHT: u32 = 16;
const LEASE: Duration = Duration::from_secs(2);
const SUBSCRIPTIONS: [&str; 2] = ["plain", "ordered"];

/// The pause after a fault that passes.
const PAUSE: Duration = Duration::from_millis(100);

/// What a fault of the broker means to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// There must be none.
    Fatal,
    /// A server may be away for a while.
    Pass,
}

pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A file of lines; a line counts once it is synced.
struct Journal(File);

impl Journal {
    fn new(folder: &Path, kind: &str, name: &str) -> Result<Self> {
        Ok(Self(File::options().create_new(true).append(true).open(folder.join(format!("{kind}-{name}.log")))?))
    }

    fn note(&mut self, lines: &str) -> Result {
        self.0.write_all(lines.as_bytes())?;
        Ok(self.0.sync_data()?)
    }
}

/// All whole lines of a kind; a last line without an end was cut off by a kill and says nothing.
fn lines(folder: &Path, kind: &str) -> Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&format!("{kind}-")) {
            let text = std::fs::read_to_string(entry.path())?;
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            all.extend(whole.lines().map(|line| line.split(' ').map(str::to_owned).collect()));
        }
    }
    Ok(all)
}

fn spec(name: &str) -> Result<SubscriptionSpec> {
    let mut spec = SubscriptionSpec::new(Name::new("kill")?, Name::new(name)?, vec![TopicPattern::new("kill.>")?]);
    (spec.lease, spec.unsettled_max, spec.ordered) = (Some(LEASE), IN_FLIGHT, name == "ordered");
    Ok(spec)
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Publishes one after another under a key of its own, and notes what it tries before and what succeeded after.
async fn publisher(broker: Arc<dyn Broker>, folder: PathBuf, name: String) -> Result {
    let (mut tried, mut stored) = (Journal::new(&folder, "tried", &name)?, Journal::new(&folder, "stored", &name)?);
    for number in 0.. {
        // Which it is says what becomes of it: every seventh fails once, every eleventh for good, every fifth is delayed.
        let message = Message::new(Topic::new("kill.created")?, 1, Payload::from_bytes(number.to_string().into_bytes()))
            .with_key(Some(name.as_str().into()));
        let id = message.id().to_string();
        tried.0.write_all(format!("{id} {name} {number}\n").as_bytes())?;
        let delay = if number % 5 == 4 && !name.ends_with('0') { Duration::from_millis(50) } else { Duration::ZERO };
        let outgoing = Outgoing { messages: Messages::One(message), delay, origin: None };
        match broker.publish(outgoing).await {
            Ok(published) if published.deliveries == 2 => stored.note(&format!("{id}\n"))?,
            Ok(published) => return Err(format!("{published:?}").into()),
            // Another process may keep the file for long on a loaded machine.
            Err(failure) => tried.0.write_all(format!("# {failure}\n").as_bytes())?,
        }
    }
    Ok(())
}

fn verdict_of(delivery: &Delivery) -> Verdict {
    let number: u64 = String::from_utf8_lossy(&delivery.message.payload().to_bytes().unwrap_or_default()).parse().unwrap_or(0);
    let failure = |kind| Box::new(Failure::new(kind, delivery.attempt, "told to fail"));
    match number {
        _ if number % 11 == 10 => Verdict::DeadLetter { failure: failure(FailureKind::Permanent) },
        _ if number % 7 == 6 && delivery.failures.is_none() => {
            Verdict::Retry { after: Duration::from_millis(30), failure: failure(FailureKind::Error) }
        }
        _ => Verdict::Ack,
    }
}

/// Handles what comes; an effect is on disk before its delivery is settled. Ends after a time of silence, if one is given.
async fn handler(consumer: Arc<dyn Consumer>, mut effects: Journal, name: &str, silence: Option<Duration>, faults: Faults) -> Result {
    loop {
        let received = consumer.receive(0, 8, Vec::new());
        let deliveries = match silence {
            None => match received.await {
                Err(error) if faults == Faults::Pass && error.is_retryable() => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                received => received?,
            },
            Some(silence) => match tokio::time::timeout(silence, received).await {
                Ok(received) => received?,
                Err(_silent) if consumer.depth().pending() == 0 => return Ok(()),
                Err(_silent) => continue,
            },
        };
        let mut note = String::new();
        let mut settlements = Vec::new();
        for delivery in deliveries {
            let verdict = verdict_of(&delivery);
            let what = match &verdict {
                Verdict::Ack => "done",
                Verdict::Retry { .. } => "failed",
                _ => "dead",
            };
            let (id, key) = (delivery.message.id(), delivery.message.key().unwrap_or_default());
            let number = String::from_utf8_lossy(&delivery.message.payload().to_bytes()?).into_owned();
            note.push_str(&format!("{name} {id} {what} {} {} {key} {number}\n", delivery.attempt, now()));
            settlements.push(Settlement { delivery, verdict });
        }
        effects.note(&note)?;
        loop {
            let settled = consumer.settle(settlements).await;
            let Some((_, error)) = settled.failed.first() else { break };
            if faults == Faults::Fatal {
                return Err(format!("a settlement failed: {error}").into());
            }
            tokio::time::sleep(PAUSE).await;
            settlements = settled.failed.into_iter().map(|(settlement, _)| settlement).collect();
        }
    }
}

/// What a worker does: publishes and handles until it is killed. A fault ends it, and is left in the folder.
pub async fn work<F: Future<Output = abe_events::Result<Arc<dyn Broker>>>>(open: impl FnOnce(PathBuf) -> F, faults: Faults) -> Result {
    let Ok(folder) = std::env::var("ABE_KILL_FOLDER") else { return Ok(()) };
    let (folder, name) = (PathBuf::from(folder), std::env::var("ABE_KILL_NAME")?);
    let broker = open(folder.clone()).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for subscription in SUBSCRIPTIONS {
        let consumer = broker.subscribe(&spec(subscription)?).await?;
        let effects = Journal::new(&folder, "effects", &format!("{name}-{subscription}"))?;
        tasks.spawn(async move { handler(consumer, effects, subscription, None, faults).await });
    }
    for at in 0..PUBLISHERS {
        tasks.spawn(publisher(broker.clone(), folder.clone(), format!("{name}-{at}")));
    }
    // Only a fault ends a task; a kill ends all of them.
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended? {
            std::fs::write(folder.join(format!("fault-{name}")), error.to_string())?;
            return Err(error);
        }
    }
    Ok(())
}

fn start(folder: &Path, name: &str) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "worker", "--nocapture"]).env("ABE_KILL_FOLDER", folder).env("ABE_KILL_NAME", name);
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// Kills at random moments, and answers how many were killed. `between` is called before each kill, and says how many it killed
/// itself.
async fn kill_for_a_while(folder: &Path, kills: usize, random: &mut fastrand::Rng, mut between: impl FnMut(usize) -> usize) -> Result<usize> {
    let mut workers = Vec::new();
    for at in 0..WORKERS {
        workers.push(start(folder, &format!("w{at}"))?);
    }
    let mut others = 0;
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.u64(30..500))).await;
        others += between(kill);
        let at = random.usize(0..WORKERS);
        workers[at].kill()?;
        workers[at].wait()?;
        workers[at] = start(folder, &format!("k{kill}"))?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for worker in &mut workers {
        worker.kill()?;
        worker.wait()?;
    }
    Ok(kills + others + WORKERS)
}

/// The whole campaign; `open` opens the broker in a folder. Answers a report.
pub async fn campaign<F: Future<Output = abe_events::Result<Arc<dyn Broker>>>>(
    title: &str,
    faults: Faults,
    open: impl Fn(PathBuf) -> F,
    between: impl FnMut(usize) -> usize,
    look: impl FnOnce(&Path) -> Result,
) -> Result {
    let kills = std::env::var("ABE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let seed = std::env::var("ABE_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let folder = std::env::temp_dir().join(format!("abe-events-kill-{title}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    // Both subscriptions exist before the first publish.
    let broker = open(folder.clone()).await?;
    for name in SUBSCRIPTIONS {
        broker.subscribe(&spec(name)?).await?;
    }
    broker.close().await?;

    let killed = kill_for_a_while(&folder, kills, &mut fastrand::Rng::with_seed(seed), between).await?;
    let found: Vec<_> = std::fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().filter(|entry| entry.file_name().to_string_lossy().starts_with("fault-")))
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default())
        .collect();
    assert!(found.is_empty(), "seed {seed}: {found:?}");

    let broker = open(folder.clone()).await?;
    let mut left = 0;
    for name in SUBSCRIPTIONS {
        let consumer = broker.subscribe(&spec(name)?).await?;
        left += consumer.depth().pending();
        handler(consumer, Journal::new(&folder, "effects", &format!("drain-{name}"))?, name, Some(2 * LEASE), faults).await?;
    }
    let letters = broker.dead_letters().list(&Default::default()).await?;
    broker.close().await?;
    let dead: BTreeSet<(String, String)> =
        letters.iter().map(|letter| (letter.subscription.to_string(), letter.message.id().to_string())).collect();
    assert_eq!(dead.len(), letters.len(), "one dead letter for each message and subscription");
    let report = compare(&folder, &dead, killed)?;
    look(&folder)?;
    std::io::stdout()
        .write_all(format!("{title} kill -9: seed {seed}, {killed} kills, {report}, {left} pending before the drain\n").as_bytes())?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Compares the journals: nothing lost, nothing made up, attempts counted, order kept, few repeats.
fn compare(folder: &Path, dead: &BTreeSet<(String, String)>, killed: usize) -> Result<String> {
    let tried: BTreeSet<String> = lines(folder, "tried")?.into_iter().map(|mut line| line.remove(0)).collect();
    let stored: BTreeSet<String> = lines(folder, "stored")?.into_iter().map(|mut line| line.remove(0)).collect();
    let mut effects = lines(folder, "effects")?;
    effects.sort_by_key(|line| line[4].parse::<u128>().unwrap_or(0));
    let mut done: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut attempts: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    let mut repeats = 0;
    for line in &effects {
        let [subscription, id, what, attempt, _, key, number] = &line[..] else { return Err(format!("{line:?}").into()) };
        assert!(tried.contains(id), "{id} was handled and never published");
        let (of, attempt) = ((subscription.clone(), id.clone()), attempt.parse::<u32>()?);
        let before = attempts.insert(of.clone(), attempt).unwrap_or(0);
        assert!(attempt > before, "{of:?} came as attempt {attempt} after attempt {before}");
        let first = *done.get(&of).unwrap_or(&0) == 0;
        if what != "failed" {
            repeats += u32::from(!first);
            *done.entry(of).or_default() += 1;
        }
        // Keys whose publisher delays nothing keep the order in which it published.
        if subscription == "ordered" && what != "failed" && first && key.ends_with('0') {
            let number = number.parse::<u64>()? + 1;
            let before = reached.insert(key.clone(), number).unwrap_or(0);
            assert!(number > before, "{key}: {} came after {}", number - 1, before.saturating_sub(1));
        }
    }
    let mut lost = Vec::new();
    for id in &stored {
        for subscription in SUBSCRIPTIONS {
            let of = (subscription.to_owned(), id.clone());
            if !done.contains_key(&of) && !dead.contains(&of) {
                lost.push(of);
            }
        }
    }
    assert!(lost.is_empty(), "{} acknowledged messages are lost, first {:?}", lost.len(), lost.first());
    assert!(dead.iter().all(|(_, id)| tried.contains(id)), "a dead letter was never published");
    let in_flight = u32::try_from(killed * SUBSCRIPTIONS.len())? * IN_FLIGHT;
    assert!(repeats <= in_flight, "{repeats} repeats, at most {in_flight} were in flight at the kills");
    assert!(stored.len() > killed, "only {} messages were published", stored.len());
    Ok(format!(
        "{} acknowledged, 0 lost, {} handled, {} dead, {repeats} repeats of at most {in_flight}",
        stored.len(),
        done.len(),
        dead.len()
    ))
}
