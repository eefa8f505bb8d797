//! What runs the cases: a panic or a hang fails one case, storages go, and a report that proves nothing does not pass.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use abe_events::BoxError;
use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{Answer, Broker};
use abe_events::conformance::{Backend, Clock, Outcome, Report, Suite};

use crate::run;

/// How the second broker that is opened disappoints.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Refuses,
    Panics,
    /// Waits for what never comes.
    Waits,
    /// Holds the thread for good.
    Blocks,
    /// Its storage cannot be removed.
    Stays,
}

/// Memory brokers, with trouble, that notes which storages there are.
struct Troubled {
    trouble: Trouble,
    clock: Clock,
    opened: Arc<AtomicUsize>,
    storages: Arc<Mutex<BTreeSet<String>>>,
}

impl Troubled {
    fn new(trouble: Trouble, clock: Clock) -> Self {
        Self { trouble, clock, opened: Arc::default(), storages: Arc::default() }
    }
}

impl Backend for Troubled {
    fn name(&self) -> &str {
        "troubled"
    }

    fn open<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        let second = self.opened.fetch_add(1, Ordering::SeqCst) == 1;
        assert!(self.storages.lock().unwrap().insert(storage.to_owned()), "a storage of this name is there already");
        Answer::later(async move {
            match self.trouble {
                Trouble::Refuses if second => return Err("no room".into()),
                Trouble::Panics if second => panic!("no idea"),
                Trouble::Waits if second => std::future::pending().await,
                Trouble::Blocks if second => loop {
                    std::thread::park();
                },
                _ => {}
            }
            Ok(Arc::new(MemoryBroker::new()) as Arc<dyn Broker>)
        })
    }

    fn remove<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<(), BoxError>> {
        if self.trouble == Trouble::Stays {
            return Answer::ready(Err("it is held".into()));
        }
        let there = self.storages.lock().unwrap().remove(storage);
        Answer::ready(if there { Ok(()) } else { Err("there is no such storage".into()) })
    }

    fn clock(&self) -> Clock {
        self.clock
    }
}

/// Runs a few short cases with trouble, and answers the storages that are left.
fn troubled(trouble: Trouble, clock: Clock, timeout: Duration) -> (Report, BTreeSet<String>) {
    let backend = Troubled::new(trouble, clock);
    let storages = backend.storages.clone();
    let report = run(Suite::new(backend).timeout(timeout).only("dead_letter"));
    let left = storages.lock().unwrap().clone();
    (report, left)
}

/// The texts of what failed.
fn failures(report: &Report) -> Vec<&str> {
    let mut found = Vec::new();
    for row in report.rows() {
        if let Outcome::Fail(why) = &row.outcome {
            found.push(why.as_str());
        }
    }
    found
}

#[test]
fn trouble_of_one_case_is_a_failure_of_that_case() {
    let (long, short) = (Duration::from_secs(60), Duration::from_secs(5));
    for (trouble, clock, timeout, said) in [
        (Trouble::Refuses, Clock::Paused, long, "no room"),
        (Trouble::Refuses, Clock::Real, long, "no room"),
        (Trouble::Panics, Clock::Paused, long, "panicked: no idea"),
        (Trouble::Panics, Clock::Real, long, "panicked: no idea"),
        (Trouble::Waits, Clock::Paused, long, "did not come within"),
        (Trouble::Waits, Clock::Real, short, "did not come within 5s"),
        (Trouble::Blocks, Clock::Paused, short, "its thread was given up"),
    ] {
        let (report, left) = troubled(trouble, clock, timeout);
        let failed = failures(&report);
        assert!(failed.len() == 1 && failed[0].contains(said), "{report}");
        assert!(report.rows().len() > 3 && !report.passed(), "{report}");
        let told = std::panic::catch_unwind(|| report.assert()).expect_err("a failure is told");
        let told = told.downcast_ref::<String>().expect("in words");
        assert!(told.contains("1 cases failed") && told.contains(said), "{told}");
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

#[test]
fn without_trouble_nothing_fails_and_nothing_is_left() {
    let (report, left) = troubled(Trouble::None, Clock::Paused, Duration::from_secs(60));
    assert!(report.passed() && left.is_empty(), "{report}\nleft behind: {left:?}");
    assert_eq!(report.capabilities().map(|declared| declared.name), Some("memory"));
}

#[test]
fn what_stays_behind_is_a_failure() {
    let (report, left) = troubled(Trouble::Stays, Clock::Paused, Duration::from_secs(60));
    let passed = report.rows().iter().filter(|row| row.outcome == Outcome::Pass).count();
    assert!(passed == 0 && !left.is_empty() && failures(&report)[0].contains("was not removed: it is held"), "{report}");
}

#[test]
fn a_case_is_chosen_by_name_number_or_part() {
    let names = |part: &str| {
        let report = run(Suite::new(Troubled::new(Trouble::None, Clock::Paused)).only(part));
        report.rows().iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(names("topic"), ["topic"]);
    assert_eq!(names("A5"), ["retry_delay"]);
    assert_eq!(names("unknown"), ["unknown_topic"]);
    assert!(names("dead_letter").len() > 3);
}

#[test]
#[should_panic(expected = "no case was run")]
fn a_report_of_nothing_does_not_pass() {
    let report = run(Suite::new(Troubled::new(Trouble::None, Clock::Paused)).only("no such case"));
    assert!(!report.passed());
    report.assert();
}

#[test]
fn a_run_that_is_dropped_begins_no_other_case() {
    let backend = Troubled::new(Trouble::None, Clock::Paused);
    let opened = backend.opened.clone();
    let mut suite = Box::pin(Suite::new(backend).run());
    let begun = suite.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(begun.is_pending(), "a whole suite cannot have ended at once");
    drop(suite);
    // Whoever runs cases holds the backend, and with it the counter.
    let dropped = Instant::now();
    while Arc::strong_count(&opened) > 1 {
        assert!(dropped.elapsed() < Duration::from_secs(60), "the suite goes on");
        std::thread::yield_now();
    }
    let opened = opened.load(Ordering::SeqCst);
    assert!(opened < 10, "{opened} cases were begun for nobody");
}
