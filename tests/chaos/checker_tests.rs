//! Histories that break a rule each, and one that breaks none: a check that never failed proves little.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its files ends there")]

use std::path::PathBuf;

use crate::checker::{Evidence, Findings, Letter, check};
use crate::herd::{Fate, Role};
use crate::story::{ATTEMPTS, Class, FRAGILE, LATE, Mark, ONCE, ORDERED, PLAIN};

const SECOND: u64 = 1_000_000_000;

/// A history under construction: what process 1 published, what the workers 2 and 3 ran.
struct Story {
    folder: PathBuf,
    evidence: Evidence,
    files: [String; 4],
}

impl Drop for Story {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn fate(process: u32, role: Role) -> Fate {
    Fate { process, role, killed: None, stops: 0, leases_lost: 0 }
}

impl Story {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("abe-events-checker-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let fates = vec![fate(1, Role::Publisher), fate(2, Role::Worker), fate(3, Role::Worker)];
        Self { folder, evidence: Evidence { fates, ..Evidence::default() }, files: Default::default() }
    }

    /// Process 1 publishes an event, with what became of that.
    fn published(mut self, number: u32, outcome: char, at: u64) -> Self {
        self.files[1].push_str(&format!("i {number} 1 {at}\n"));
        if outcome != '-' {
            self.files[1].push_str(&format!("{outcome} {number} 1 {at}\n"));
        }
        self
    }

    fn said(mut self, worker: usize, letter: char, subscription: usize, number: u32, attempt: u32, at: u64) -> Self {
        self.files[worker].push_str(&format!("{letter} {subscription} 1 {number} {attempt} {at}\n"));
        self
    }

    /// A run that ends well.
    fn ran(self, worker: usize, subscription: usize, number: u32, attempt: u32, at: u64) -> Self {
        self.said(worker, 's', subscription, number, attempt, at).said(worker, 'k', subscription, number, attempt, at + 1)
    }

    /// The same where there are two subscriptions.
    fn ran_plain(self, worker: usize, number: u32, attempt: u32, at: u64) -> Self {
        self.ran(worker, PLAIN, number, attempt, at).ran(worker, crate::story::BATCH, number, 0, at)
    }

    fn letter(mut self, subscription: usize, number: u32, attempts: u32) -> Self {
        let mark = Mark { from: 1, number };
        self.evidence.letters.push(Letter { subscription, mark, attempts, whole: true, silent: false });
        self
    }

    fn killed(mut self, worker: u32, at: u64) -> Self {
        self.evidence.fates[worker as usize - 1].killed = Some(at);
        self
    }

    fn check(&self) -> Findings {
        for (process, kind) in [(1, "pub"), (2, "run"), (3, "run")] {
            std::fs::write(self.folder.join(format!("{kind}-{process}.log")), &self.files[process]).unwrap();
        }
        check(&self.folder, &self.evidence).unwrap()
    }

    fn is_clean(&self) -> bool {
        let findings = self.check();
        assert!(findings.is_clean(), "{:?}", findings.lines());
        true
    }

    /// The one rule that is broken, and no other.
    #[track_caller]
    fn breaks(&self, rule: &str) {
        let findings = self.check();
        assert!(findings.count(rule) > 0, "{rule} was not noticed: {:?}", findings.lines());
        assert_eq!(findings.lines().len(), 1, "{:?}", findings.lines());
    }
}

/// The first number of a class with a fate.
fn number(class: Class, fate: crate::story::Fate) -> u32 {
    (0..100_000)
        .find(|number| Mark { from: 1, number: *number }.class() == class && Mark { from: 1, number: *number }.fate() == fate)
        .unwrap()
}

#[test]
fn a_sound_history_is_sound() {
    let (fragile, late) = (number(Class::Fragile, crate::story::Fate::FailsOnce), number(Class::Late, crate::story::Fate::Good));
    let story = Story::new("sound").published(1, 'o', 1).published(2, 'u', 2).published(3, 'f', 3).published(4, '-', 4);
    let story = story.published(fragile, 'o', 5).published(late, 'o', SECOND);
    let story = story.ran_plain(2, 1, 1, 10).ran_plain(2, 2, 1, 20).ran(3, LATE, late, 1, 2 * SECOND);
    let story = story.said(2, 's', FRAGILE, fragile, 1, 30).said(2, 'e', FRAGILE, fragile, 1, 31);
    let story = story.ran(3, FRAGILE, fragile, 2, 31 + 40_000_000);
    assert!(story.is_clean());
    let findings = story.check();
    assert_eq!((findings.stored, findings.unknown, findings.delays, findings.duplicates), (3, 2, 2, 0));
}

#[test]
fn what_was_stored_and_never_ran_is_lost() {
    Story::new("lost").published(1, 'o', 1).published(2, 'u', 2).ran(2, PLAIN, 1, 1, 10).breaks("lost");
    assert!(Story::new("not-lost").published(1, 'o', 1).ran_plain(3, 1, 1, 10).published(2, 'u', 2).is_clean());
    // A run that was cut off is no end.
    Story::new("cut").published(1, 'o', 1).ran_plain(3, 1, 1, 10).published(2, 'o', 2).said(2, 's', PLAIN, 2, 1, 5).breaks("lost");
}

#[test]
fn what_was_refused_or_never_published_must_not_run() {
    Story::new("refused").published(1, 'f', 1).ran(2, PLAIN, 1, 1, 10).breaks("phantom");
    Story::new("made-up").published(1, 'f', 1).ran(2, PLAIN, 7, 1, 10).breaks("phantom");
    Story::new("gap").published(1, 'f', 1).published(9, 'f', 1).ran(2, PLAIN, 7, 1, 10).breaks("phantom");
    Story::new("letter").published(850, 'f', 1).letter(FRAGILE, 850, 3).breaks("phantom");
}

#[test]
fn what_comes_to_the_wrong_handler_or_damaged_is_noticed() {
    Story::new("astray").published(1, 'o', 1).ran_plain(2, 1, 1, 10).ran(2, LATE, 1, 1, 2 * SECOND).breaks("astray");
    Story::new("damaged").published(1, 'o', 1).ran_plain(2, 1, 1, 10).said(2, 'x', PLAIN, 1, 1, 12).breaks("damaged");
}

#[test]
fn the_next_of_a_key_starts_only_after_the_one_before() {
    // The same key: 97 apart.
    let story = |name: &str| Story::new(name).published(501, 'o', 1).published(598, 'o', 2);
    assert!(story("in-order").ran(2, ORDERED, 501, 1, 10).ran(3, ORDERED, 598, 1, 20).is_clean());
    story("early").ran(2, ORDERED, 501, 1, 10).ran(3, ORDERED, 598, 1, 10).breaks("inversion");
    story("turned").ran(2, ORDERED, 501, 1, 20).ran(3, ORDERED, 598, 1, 10).breaks("inversion");
    // Between a start that was cut off and the end of the run that stands.
    let cut = story("cut").killed(2, 12).said(2, 's', ORDERED, 501, 1, 10);
    cut.ran(3, ORDERED, 501, 2, 30).ran(3, ORDERED, 598, 1, 20).breaks("inversion");
    // Another key does not wait.
    let other = Story::new("other").published(501, 'o', 1).published(502, 'o', 2);
    assert!(other.ran(2, ORDERED, 501, 1, 20).ran(3, ORDERED, 502, 1, 10).is_clean());
}

#[test]
fn an_attempt_is_counted_before_it_starts() {
    let story = |name: &str| Story::new(name).published(1, 'o', 1).killed(2, 20).said(2, 's', PLAIN, 1, 1, 10);
    assert!(story("counted").ran_plain(3, 1, 2, 30).is_clean());
    story("uncounted").ran_plain(3, 1, 1, 30).breaks("attempt uncounted");
    story("many").ran_plain(3, 1, 11, 30).breaks("too many attempts");
}

#[test]
fn nothing_comes_early() {
    let late = number(Class::Late, crate::story::Fate::Good);
    Story::new("late").published(late, 'o', SECOND).ran(2, LATE, late, 1, SECOND + 299_000_000).breaks("early");
    let fails = number(Class::Fragile, crate::story::Fate::FailsOnce);
    let story = |name: &str| {
        let story = Story::new(name).published(fails, 'o', 1).said(2, 's', FRAGILE, fails, 1, 10);
        story.said(2, 'e', FRAGILE, fails, 1, SECOND)
    };
    story("retry").ran(3, FRAGILE, fails, 2, SECOND + 29_000_000).breaks("early");
    // Where the verdict may never have been carried out, the end of a lease brings it back whenever that is.
    assert!(story("cut").killed(2, SECOND + 1_000).ran(3, FRAGILE, fails, 2, SECOND + 29_000_000).is_clean());
}

#[test]
fn what_comes_twice_needs_a_cause() {
    let story = |name: &str| Story::new(name).published(1, 'o', 1).ran_plain(2, 1, 1, 10);
    assert!(story("killed").killed(2, 20).ran(3, PLAIN, 1, 2, 30).is_clean());
    let findings = story("counted").killed(2, 20).ran(3, PLAIN, 1, 2, 30).check();
    assert_eq!((findings.duplicates, findings.duplicates_max), (1, 2));
    let findings = story("no-cause").ran(3, PLAIN, 1, 2, 30).check();
    assert!(findings.count("twice without cause") == 1 && findings.count("too many duplicates") == 1, "{:?}", findings.lines());
    let mut lost = story("lease").ran(3, PLAIN, 1, 2, 30);
    lost.evidence.fates[1].leases_lost = 1;
    assert!(lost.is_clean());
}

#[test]
fn a_dead_letter_is_one_and_whole_and_due() {
    let fails = number(Class::Fragile, crate::story::Fate::FailsAlways);
    let good = number(Class::Fragile, crate::story::Fate::Good);
    let story = |name: &str, number: u32| Story::new(name).published(number, 'o', 1);
    let dead = |name: &str| {
        let attempts = ATTEMPTS[FRAGILE];
        let story = story(name, fails).said(2, 's', FRAGILE, fails, attempts, 10).said(2, 'd', FRAGILE, fails, attempts, 11);
        story.letter(FRAGILE, fails, attempts)
    };
    assert!(dead("due").is_clean());
    dead("twice").letter(FRAGILE, fails, 3).breaks("buried twice");
    let mut damaged = dead("damaged");
    damaged.evidence.letters[0].whole = false;
    damaged.breaks("damaged");
    dead("again").said(3, 's', FRAGILE, fails, 4, 5 * SECOND).breaks("again after its end");
    story("alive", good).letter(FRAGILE, good, 3).breaks("buried alive");
    let findings = story("both", good).ran(2, FRAGILE, good, 1, 10).letter(FRAGILE, good, 3).check();
    assert_eq!(findings.count("done and dead"), 1);
    // Given up because its process died ten times.
    let mut silent = story("silent", good).letter(FRAGILE, good, 11);
    silent.evidence.letters[0].silent = true;
    assert!(silent.is_clean() && silent.check().given_up == 1);
}

#[test]
fn what_was_given_has_to_have_ended() {
    let mut story = Story::new("accounts").published(1, 'o', 1).published(2, 'u', 2).ran_plain(2, 1, 1, 10);
    let mut accepted = [0; 7];
    (accepted[PLAIN], accepted[crate::story::BATCH]) = (1, 1);
    story.evidence.accepted = Some(accepted);
    assert!(story.is_clean());
    // The one of unknown outcome was stored after all, and vanished.
    accepted[PLAIN] = 2;
    story.evidence.accepted = Some(accepted);
    story.breaks("accounting");
}

#[test]
fn an_event_has_one_effect() {
    let story = |name: &str, effects: &[u32]| {
        let story = Story::new(name).published(900, 'o', 1).published(901, 'f', 1).published(902, 'u', 1);
        let mut story = story.ran(2, ONCE, 900, 0, 10);
        story.evidence.effects = Some(effects.iter().map(|number| Mark { from: 1, number: *number }).collect());
        story
    };
    assert!(story("one", &[900]).is_clean() && story("unknown", &[900, 902]).is_clean());
    story("twice", &[900, 900]).breaks("effect twice");
    story("none", &[]).breaks("effect lost");
    story("made-up", &[900, 901]).breaks("phantom");
    story("stranger", &[900, 990]).breaks("phantom");
    // Its commit failed, and it was given up: no effect. With one, it was not.
    let dead = |effects: &[u32]| story("dead", effects).letter(ONCE, 900, ATTEMPTS[ONCE]);
    assert!(dead(&[]).is_clean());
    dead(&[900]).breaks("done and dead");
}

#[test]
fn recovery_is_the_time_from_a_kill_to_the_next_run() {
    let story = Story::new("recovery").published(1, 'o', 1).killed(2, SECOND).said(2, 's', PLAIN, 1, 1, SECOND / 2);
    assert_eq!(story.ran_plain(3, 1, 2, 3 * SECOND).check().recovery_ms, 2_000);
}

#[test]
fn what_a_process_wrote_last_counts_only_if_it_is_whole() {
    let mut story = Story::new("torn").published(1, 'o', 1).ran_plain(3, 1, 1, 10);
    story.files[2].push_str("s 0 1 999");
    assert!(story.is_clean());
    story.files[2].push_str("x\n");
    std::fs::write(story.folder.join("run-2.log"), &story.files[2]).unwrap();
    assert!(check(&story.folder, &story.evidence).is_err(), "a line that means nothing is no history");
}
