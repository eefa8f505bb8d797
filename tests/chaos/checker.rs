//! What must hold of a history, whatever was done to the processes: read in linear time, with some bytes for each event.
//!
//! Publishers' files say what was stored, workers' files what ran; what was done to whom, and the dead letters, are given.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;

use crate::herd::{Fate, Role};
use crate::history::{self, Line, Said, Stored};
use crate::story::{ATTEMPTS, BATCH, Class, DEADLY, LATE, LATE_MS, Mark, ONCE, ORDERED, RETRY_MS, SILENT_ENDS_MAX, SUBSCRIPTIONS};
use crate::support::Result;

/// How many deliveries of each subscription a worker may hold: 64 for each lane.
pub(crate) const IN_FLIGHT: [u64; 7] = [128, 64, 256, 64, 64, 64, 128];

/// How many samples of what is wrong are kept.
const SAMPLES: usize = 5;

/// A verdict written this long before its process was killed is taken to have been carried out: so long does a broker wait
/// for a file that others keep locked.
const SETTLED_NS: u64 = 5_000_000_000;

/// A verdict written so shortly before its process was killed may have been cut off.
const LATELY_NS: u64 = 100_000_000;

/// A dead letter, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) subscription: usize,
    pub(crate) mark: Mark,
    pub(crate) attempts: u32,
    /// Whether it is byte by byte what was published.
    pub(crate) whole: bool,
    /// Whether its last attempt ended without a word.
    pub(crate) silent: bool,
}

/// Beside the files, what the checker has to know.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) fates: Vec<Fate>,
    pub(crate) letters: Vec<Letter>,
    /// What stands in the ledger, where there is one.
    pub(crate) effects: Option<Vec<Mark>>,
    /// How many messages each subscription was given, as far as the broker counts that.
    pub(crate) accepted: Option<[u64; 7]>,
    /// Verdicts that could not be carried out, as the workers' logs say.
    pub(crate) settle_failures: u64,
    /// Dead letters that could not be stored: their last attempt is repeated, and bears the same number.
    pub(crate) unburied: u64,
}

/// What came of the check.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    wrong: BTreeMap<&'static str, (u64, Vec<String>)>,
    pub(crate) stored: u64,
    pub(crate) unknown: u64,
    pub(crate) runs: u64,
    pub(crate) letters: u64,
    pub(crate) duplicates: u64,
    pub(crate) duplicates_max: u64,
    /// Entries of the ledger, and those that stand there twice.
    pub(crate) effects: u64,
    pub(crate) effects_twice: u64,
    pub(crate) given_up: u64,
    pub(crate) delays: u64,
    pub(crate) pairs: u64,
    /// The highest attempt of an event that does no harm, in the company of those that kill.
    pub(crate) beside: u32,
    /// The longest time from a kill to the next run of what was running.
    pub(crate) recovery_ms: u64,
}

impl Findings {
    pub(crate) fn wrong(&mut self, rule: &'static str, sample: impl FnOnce() -> String) {
        let (count, samples) = self.wrong.entry(rule).or_default();
        *count += 1;
        if samples.len() < SAMPLES {
            samples.push(sample());
        }
    }

    pub(crate) fn count(&self, rule: &str) -> u64 {
        self.wrong.get(rule).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Takes those of another run in.
    pub(crate) fn add(&mut self, other: Self) {
        for (rule, (count, samples)) in other.wrong {
            let known = self.wrong.entry(rule).or_default();
            known.0 += count;
            known.1.extend(samples);
            known.1.truncate(SAMPLES);
        }
        self.stored += other.stored;
        self.unknown += other.unknown;
        self.runs += other.runs;
        self.letters += other.letters;
        self.duplicates += other.duplicates;
        self.duplicates_max += other.duplicates_max;
        self.effects += other.effects;
        self.effects_twice += other.effects_twice;
        self.given_up += other.given_up;
        self.delays += other.delays;
        self.pairs += other.pairs;
        self.beside = self.beside.max(other.beside);
        self.recovery_ms = self.recovery_ms.max(other.recovery_ms);
    }

    /// What is wrong, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(rule, (count, samples)): (&&'static str, &(u64, Vec<String>))| format!("{rule}: {count}, such as {samples:?}");
        self.wrong.iter().map(line).collect()
    }
}

/// One publish, with what became of it.
#[derive(Debug, Clone, Copy)]
struct Call {
    first: u32,
    count: u32,
    at: u64,
}

/// A publisher's events lie side by side.
#[derive(Debug)]
struct Block {
    base: usize,
    count: u32,
    calls: Vec<Call>,
}

/// What was seen of an event in a subscription.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// A bit for each attempt that was started.
    attempts: u16,
    done: u8,
    dead: bool,
    /// Whether a process was killed or stopped that had done it.
    faulted: bool,
    letter: bool,
}

/// A failed attempt: subscription, event, attempt.
type Failed = (u8, u32, u32);

struct Check<'a> {
    folder: &'a Path,
    evidence: &'a Evidence,
    findings: Findings,
    blocks: BTreeMap<u32, Block>,
    stored: Vec<Stored>,
    seen: Vec<Vec<Seen>>,
    /// Of the ordered subscription: when each event began first, and ended first.
    began: Vec<u64>,
    ended: Vec<u64>,
    failed: HashMap<Failed, u64>,
    /// When attempts failed for good whose verdict was carried out, by subscription and event.
    dead: HashMap<(u8, u32), u64>,
    /// What was running when its process was killed, or had just ended, and when that was.
    cut: HashMap<(usize, Mark), u64>,
    recovered: HashMap<(usize, Mark), u64>,
    /// Attempts that were started twice.
    repeated: Vec<(usize, Mark, u32)>,
}

/// Checks what a run left in its folder.
pub(crate) fn check(folder: &Path, evidence: &Evidence) -> Result<Findings> {
    let mut check = Check {
        folder,
        evidence,
        findings: Findings::default(),
        blocks: BTreeMap::new(),
        stored: Vec::new(),
        seen: Vec::new(),
        began: Vec::new(),
        ended: Vec::new(),
        failed: HashMap::new(),
        dead: HashMap::new(),
        cut: HashMap::new(),
        recovered: HashMap::new(),
        repeated: Vec::new(),
    };
    check.read_publishers()?;
    let events = check.stored.len();
    check.seen = vec![vec![Seen::default(); events]; SUBSCRIPTIONS.len()];
    (check.began, check.ended) = (vec![u64::MAX; events], vec![u64::MAX; events]);
    let workers: Vec<Fate> = evidence.fates.iter().filter(|fate| fate.role != Role::Publisher).cloned().collect();
    for fate in &workers {
        check.read_ends(fate)?;
    }
    for fate in &workers {
        check.read_runs(fate)?;
    }
    check.take_letters();
    check.judge_events();
    check.judge_order();
    check.judge_effects();
    check.judge_counts();
    Ok(check.findings)
}

impl Check<'_> {
    fn read_publishers(&mut self) -> Result {
        for fate in self.evidence.fates.iter().filter(|fate| fate.role != Role::Worker) {
            let base = self.stored.len();
            let (mut block, stored) = (Block { base, count: 0, calls: Vec::new() }, &mut self.stored);
            history::read(&self.folder.join(format!("pub-{}.log", fate.process)), |line| {
                let Line::Publish { stored: outcome, first, count, at } = line else { return };
                if outcome == Stored::Invoked {
                    block.count = first + count;
                    block.calls.push(Call { first, count, at });
                    stored.resize(base + block.count as usize, Stored::Never);
                }
                let range = base + first as usize..base + (first + count) as usize;
                stored[range].iter_mut().for_each(|stored| *stored = outcome);
            })?;
            self.blocks.insert(fate.process, block);
        }
        self.findings.stored = self.stored.iter().filter(|stored| **stored == Stored::Yes).count() as u64;
        self.findings.unknown = self.stored.iter().filter(|stored| matches!(stored, Stored::Unknown | Stored::Invoked)).count() as u64;
        Ok(())
    }

    /// Where an event stands; `None` for one that nobody ever published.
    fn index(&self, mark: Mark) -> Option<usize> {
        self.blocks.get(&mark.from).filter(|block| mark.number < block.count).map(|block| block.base + mark.number as usize)
    }

    fn published_at(&self, mark: Mark) -> u64 {
        let Some(block) = self.blocks.get(&mark.from) else { return 0 };
        let at = block.calls.partition_point(|call| call.first <= mark.number);
        block.calls[..at].last().filter(|call| mark.number < call.first + call.count).map_or(0, |call| call.at)
    }

    /// First reading of a worker: what it left running, and how attempts failed whose verdict was carried out.
    fn read_ends(&mut self, fate: &Fate) -> Result {
        let mut open: HashSet<(usize, Mark)> = HashSet::new();
        // What ended shortly before a kill: its verdict may have been cut off.
        let mut late: VecDeque<((usize, Mark), u64)> = VecDeque::new();
        let mut done = [0_u64; 7];
        let mut failed = Vec::new();
        history::read(&self.folder.join(format!("run-{}.log", fate.process)), |line| {
            let Line::Run { said, subscription, mark, attempt, at } = line else { return };
            match said {
                Said::Start => {
                    open.insert((subscription, mark));
                }
                Said::Done | Said::Failed | Said::Dead => {
                    open.remove(&(subscription, mark));
                    done[subscription] += 1;
                    late.push_back(((subscription, mark), at));
                    while late.front().is_some_and(|(_, before)| before + LATELY_NS < at) {
                        late.pop_front();
                    }
                    if said != Said::Done && attempt > 0 {
                        failed.push((said, subscription, mark, attempt, at));
                    }
                }
                Said::Damaged => {}
            }
        })?;
        if let Some(killed) = fate.killed {
            let late = late.into_iter().filter(|(_, at)| at + LATELY_NS > killed).map(|(run, _)| run);
            self.cut.extend(open.into_iter().chain(late).map(|run| (run, killed)));
        }
        let settled = |at: u64| fate.stops == 0 && fate.killed.is_none_or(|killed| at + SETTLED_NS < killed);
        for (said, subscription, mark, attempt, at) in failed {
            let Some(index) = self.index(mark).filter(|_| settled(at)) else { continue };
            let (subscription, index) = (u8::try_from(subscription)?, u32::try_from(index)?);
            if said == Said::Dead {
                self.dead.insert((subscription, index), at);
            } else {
                self.failed.insert((subscription, index, attempt), at);
            }
        }
        let losses = u64::from(fate.killed.is_some()) + u64::from(fate.stops);
        let in_flight: u64 = done.iter().zip(IN_FLIGHT).map(|(done, most)| (*done).min(most)).sum();
        self.findings.duplicates_max += losses * in_flight + fate.leases_lost;
        Ok(())
    }

    /// Second reading of a worker: all that ran.
    fn read_runs(&mut self, fate: &Fate) -> Result {
        let mut lines = Vec::new();
        let path = self.folder.join(format!("run-{}.log", fate.process));
        history::read(&path, |line| {
            if let Line::Run { .. } = line {
                lines.push(line);
            }
        })?;
        let faulted = fate.killed.is_some() || fate.stops > 0;
        for line in lines {
            if let Line::Run { said, subscription, mark, attempt, at } = line {
                self.run(said, subscription, mark, attempt, at, faulted);
            }
        }
        Ok(())
    }

    fn run(&mut self, said: Said, subscription: usize, mark: Mark, attempt: u32, at: u64, faulted: bool) {
        let Some(index) = self.index(mark).filter(|index| !matches!(self.stored[*index], Stored::Never | Stored::No)) else {
            self.findings.wrong("phantom", || format!("{mark:?} in {}", SUBSCRIPTIONS[subscription]));
            return;
        };
        if !mark.subscriptions().contains(&subscription) {
            self.findings.wrong("astray", || format!("{mark:?} in {}", SUBSCRIPTIONS[subscription]));
        }
        match said {
            Said::Damaged => self.findings.wrong("damaged", || format!("{mark:?} in {}", SUBSCRIPTIONS[subscription])),
            Said::Start => self.started(subscription, mark, attempt, at, index),
            Said::Failed => {}
            Said::Done | Said::Dead => {
                let seen = &mut self.seen[subscription][index];
                if said == Said::Done {
                    seen.done = seen.done.saturating_add(1);
                    seen.faulted |= faulted;
                } else {
                    seen.dead = true;
                }
                if subscription == ORDERED {
                    self.ended[index] = self.ended[index].min(at);
                }
            }
        }
    }

    fn started(&mut self, subscription: usize, mark: Mark, attempt: u32, at: u64, index: usize) {
        self.findings.runs += 1;
        if let Some(killed) = self.cut.get(&(subscription, mark)).filter(|killed| at > **killed) {
            let took = (at - killed) / 1_000_000;
            let known = self.recovered.entry((subscription, mark)).or_insert(took);
            *known = took.min(*known);
        }
        if subscription == ORDERED {
            self.began[index] = self.began[index].min(at);
        }
        if subscription == LATE {
            self.findings.delays += 1;
            let due = self.published_at(mark) + LATE_MS * 1_000_000;
            if at < due {
                self.findings.wrong("early", || format!("{mark:?} {} ms before its time", (due - at) / 1_000_000));
            }
        }
        if attempt == 0 {
            return;
        }
        let seen = &mut self.seen[subscription][index];
        let bit = 1_u16 << attempt.min(15);
        if seen.attempts & bit != 0 {
            self.repeated.push((subscription, mark, attempt));
        }
        seen.attempts |= bit;
        if attempt > ATTEMPTS[subscription].max(SILENT_ENDS_MAX) {
            self.findings.wrong("too many attempts", || format!("{mark:?} in {}: {attempt}", SUBSCRIPTIONS[subscription]));
        }
        if subscription == DEADLY && !mark.fate().is_dead() {
            self.findings.beside = self.findings.beside.max(attempt);
        }
        let (narrow, index) = (u8::try_from(subscription).unwrap_or(0), u32::try_from(index).unwrap_or(0));
        if self.dead.get(&(narrow, index)).is_some_and(|dead| at > *dead) && !self.is_excused() {
            self.findings.wrong("again after its end", || format!("{mark:?} in {}: attempt {attempt}", SUBSCRIPTIONS[subscription]));
        }
        let before = (narrow, index, attempt - 1);
        if let Some(failed) = self.failed.get(&before) {
            self.findings.delays += 1;
            if at > *failed && at < failed + RETRY_MS[subscription] * 1_000_000 {
                self.findings.wrong("early", || format!("{mark:?} again after {} µs", (at - failed) / 1_000));
            }
        }
    }

    fn leases_lost(&self) -> u64 {
        self.evidence.fates.iter().map(|fate| fate.leases_lost).sum()
    }

    /// Whether verdicts are known not to have been carried out: then what they were for may run again.
    fn is_excused(&self) -> bool {
        self.evidence.settle_failures + self.evidence.unburied + self.leases_lost() > 0
    }

    fn take_letters(&mut self) {
        self.findings.letters = self.evidence.letters.len() as u64;
        for letter in &self.evidence.letters {
            let name = SUBSCRIPTIONS[letter.subscription];
            let Some(index) = self.index(letter.mark).filter(|index| !matches!(self.stored[*index], Stored::Never | Stored::No)) else {
                self.findings.wrong("phantom", || format!("{:?} is a dead letter of {name}", letter.mark));
                continue;
            };
            let seen = &mut self.seen[letter.subscription][index];
            if seen.letter {
                self.findings.wrong("buried twice", || format!("{:?} in {name}", letter.mark));
            }
            seen.letter = true;
            let (done, faulted) = (seen.done, seen.faulted);
            // In a transaction, done is what is in the ledger: its commit may have failed.
            let in_transaction = letter.subscription == ONCE && self.evidence.effects.is_some();
            if done > 0 && !faulted && !in_transaction {
                self.findings.wrong("done and dead", || format!("{:?} in {name}", letter.mark));
            }
            if !letter.whole {
                self.findings.wrong("damaged", || format!("{:?}, a dead letter of {name}", letter.mark));
            }
            if !letter.mark.fate().is_dead() {
                // A transaction that cannot be had, since the database is locked or away, is a failed attempt like any other.
                let denied = letter.subscription == ONCE && self.evidence.effects.is_some() && letter.attempts >= ATTEMPTS[ONCE];
                // An item of a batch fails by chance now and then, and after four ends without a word that is its end.
                let denied = denied || letter.subscription == BATCH && letter.attempts >= ATTEMPTS[BATCH];
                let silent = letter.silent && letter.attempts >= SILENT_ENDS_MAX && letter.subscription != DEADLY;
                if silent || denied {
                    self.findings.given_up += 1;
                } else {
                    self.findings.wrong("buried alive", || format!("{letter:?} of {name}"));
                }
            }
        }
    }

    /// Nothing is lost, and what came twice came for a reason.
    fn judge_events(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let excused = self.evidence.settle_failures + self.leases_lost();
        let mut without_cause = 0;
        for (from, block) in &blocks {
            for number in 0..block.count {
                let (mark, index) = (Mark { from: *from, number }, block.base + number as usize);
                for subscription in mark.subscriptions() {
                    let seen = self.seen[*subscription][index];
                    if self.stored[index] == Stored::Yes && seen.done == 0 && !seen.letter {
                        self.findings.wrong("lost", || format!("{mark:?} in {}, {seen:?}", SUBSCRIPTIONS[*subscription]));
                    }
                    self.findings.duplicates += u64::from(seen.done.saturating_sub(1));
                    if seen.done > 1 && !seen.faulted {
                        without_cause += 1;
                        if without_cause > excused {
                            self.findings.wrong("twice without cause", || format!("{mark:?} in {}", SUBSCRIPTIONS[*subscription]));
                        }
                    }
                }
            }
        }
        self.blocks = blocks;
    }

    /// In the ordered subscription the next of a key starts only after the one before has ended.
    fn judge_order(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        for (from, block) in &blocks {
            let mut last: HashMap<u32, (u32, u64)> = HashMap::new();
            for number in 0..block.count {
                let (mark, index) = (Mark { from: *from, number }, block.base + number as usize);
                // When one was stored of which the publisher does not know, nobody knows.
                let Some(key) = mark.key().filter(|_| mark.class() == Class::Keyed && self.stored[index] == Stored::Yes) else { continue };
                if let Some((before, ended)) = last.get(&key) {
                    self.findings.pairs += 1;
                    let began = self.began[index];
                    if began < *ended && *ended != u64::MAX {
                        self.findings.wrong("inversion", || format!("{mark:?} began {} µs before {before} ended", (ended - began) / 1_000));
                    }
                }
                last.insert(key, (number, self.ended[index]));
            }
        }
        self.blocks = blocks;
    }

    /// Each event of the class `Once` has one effect, whatever was done to whom.
    fn judge_effects(&mut self) {
        let Some(effects) = &self.evidence.effects else { return };
        self.findings.effects = effects.len() as u64;
        let mut found = vec![0_u8; self.stored.len()];
        for mark in effects {
            match self.index(*mark).filter(|index| !matches!(self.stored[*index], Stored::Never | Stored::No)) {
                Some(index) => found[index] = found[index].saturating_add(1),
                None => self.findings.wrong("phantom", || format!("{mark:?} in the ledger")),
            }
        }
        for (from, block) in &self.blocks {
            for number in 0..block.count {
                let (mark, index) = (Mark { from: *from, number }, block.base + number as usize);
                if found[index] > 1 {
                    self.findings.effects_twice += 1;
                    self.findings.wrong("effect twice", || format!("{mark:?} stands {} times in the ledger", found[index]));
                }
                let seen = self.seen[ONCE][index];
                if found[index] > 0 && seen.letter && seen.done > 0 && !seen.faulted {
                    self.findings.wrong("done and dead", || format!("{mark:?} is in the ledger, and a dead letter"));
                }
                if found[index] == 0 && mark.class() == Class::Once && self.stored[index] == Stored::Yes && !seen.letter {
                    self.findings.wrong("effect lost", || format!("{mark:?} is not in the ledger"));
                }
            }
        }
    }

    fn judge_counts(&mut self) {
        self.findings.duplicates_max += self.evidence.settle_failures;
        if self.findings.duplicates > self.findings.duplicates_max {
            let (duplicates, most) = (self.findings.duplicates, self.findings.duplicates_max);
            self.findings.wrong("too many duplicates", || format!("{duplicates} of at most {most}"));
        }
        if self.repeated.len() as u64 > self.evidence.unburied {
            for (subscription, mark, attempt) in std::mem::take(&mut self.repeated) {
                self.findings.wrong("attempt uncounted", || format!("{mark:?} in {}: {attempt} twice", SUBSCRIPTIONS[subscription]));
            }
        }
        self.findings.recovery_ms = self.recovered.values().max().copied().unwrap_or(0);
        let Some(accepted) = self.evidence.accepted else { return };
        for (subscription, accepted) in accepted.into_iter().enumerate() {
            let ended = self.seen[subscription].iter().filter(|seen| seen.done > 0 || seen.letter).count() as u64;
            if ended != accepted {
                let name = SUBSCRIPTIONS[subscription];
                self.findings.wrong("accounting", || format!("{name} was given {accepted}, {ended} have ended"));
            }
        }
    }
}
