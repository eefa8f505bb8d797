//! Panics, timeouts and errors: whatever user code does, its message ends exactly once.

use std::sync::atomic::{AtomicUsize, Ordering};

use abe_events::broker::FailureKind;
use abe_events::handler::{Ended, HandlerDescriptor, Interrupt};
use abe_events::{Classify, Error, Message, Result, event, handlers, subscribe};

use crate::script::{Script, forever, json, pause, typed};

#[event(topic = "job")]
#[derive(Clone)]
pub(crate) struct Job(u32);

fn jobs() -> Vec<Message> {
    (0..3).map(|number| typed(Job(number))).collect()
}

fn play(handler: &HandlerDescriptor) -> Script {
    Script::new(jobs()).play_with(handler)
}

fn is_panic(ended: &Ended, says: &str) -> bool {
    matches!(ended, Ended::Failed { kind: FailureKind::Panic, text, .. } if text.contains(says))
}

#[test]
fn a_panic_in_any_poll_is_a_failed_attempt_and_the_lane_goes_on() {
    #[subscribe]
    async fn panics_at_once(job: &Job) {
        assert!(job.0 != 1, "job {} is bad", job.0);
    }
    #[subscribe]
    async fn panics_later(job: &Job) {
        pause().await;
        assert!(job.0 != 1, "job {} is bad", job.0);
    }
    #[subscribe]
    fn panics_inline(job: &Job) {
        assert!(job.0 != 1, "job {} is bad", job.0);
    }
    #[subscribe(blocking)]
    fn panics_elsewhere(job: &Job) {
        assert!(job.0 != 1, "job {} is bad", job.0);
    }
    for handler in handlers![panics_at_once, panics_later, panics_inline, panics_elsewhere] {
        let endings = play(handler).endings();
        assert_eq!((&endings[0], &endings[2]), (&Ended::Success, &Ended::Success), "{handler:?}");
        assert!(is_panic(&endings[1], "the handler panicked: job 1 is bad"), "{handler:?} {endings:?}");
    }
}

#[test]
fn a_panic_in_a_filter_or_a_key_is_a_failure() {
    #[subscribe(filter = |job| if job.0 == 1 { panic!("no") } else { true })]
    async fn filter(_job: &Job) {}
    #[subscribe(idempotent(key = |job| if job.0 == 1 { panic!("no") } else { job.0 }))]
    async fn key(_job: &Job) {}
    for handler in handlers![filter, key] {
        let mut script = Script::new(jobs());
        script.idempotent = true;
        let endings = script.play_with(handler).endings();
        assert!(is_panic(&endings[1], "no") && endings[2] == Ended::Success, "{endings:?}");
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

#[test]
fn a_panic_in_a_drop_does_not_end_the_lane() {
    #[subscribe]
    async fn holds(_job: &Job) {
        let _held = PanicsInDrop;
        forever().await;
    }
    let mut script = Script::new(jobs());
    script.interrupt = Some(Interrupt::Timeout);
    let endings = script.play_with(handlers![holds][0]).endings();
    assert!(endings.iter().all(|ended| matches!(ended, Ended::Failed { kind: FailureKind::Timeout, .. })), "{endings:?}");
}

#[test]
fn a_payload_of_a_panic_that_panics_when_dropped_does_not_end_the_lane() {
    #[subscribe]
    async fn throws(_job: &Job) {
        std::panic::panic_any(PanicsInDrop);
    }
    assert!(play(handlers![throws][0]).endings().iter().all(|ended| is_panic(ended, "not text")));
}

#[test]
fn an_interrupt_drops_the_future() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    #[subscribe]
    async fn waits(_job: &Job) {
        let _counts = Counts;
        forever().await;
    }
    let mut script = Script::new(jobs());
    script.interrupt = Some(Interrupt::Cancelled);
    assert_eq!(script.play_with(handlers![waits][0]).endings(), [Ended::Cancelled, Ended::Cancelled, Ended::Cancelled]);
    assert_eq!(DROPPED.load(Ordering::Relaxed), 3);
}

#[derive(Debug)]
enum JobError {
    Broken,
    Passing,
}

impl std::fmt::Display for JobError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Classify for JobError {
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Broken)
    }
}

#[test]
fn an_error_says_whether_it_is_permanent() {
    #[subscribe]
    async fn fails(job: &Job) -> Result<(), JobError> {
        if job.0 == 0 { Err(JobError::Broken) } else { Err(JobError::Passing) }
    }
    #[subscribe]
    async fn fails_with_ours(job: &Job) -> Result<()> {
        if job.0 == 0 { Err(Error::permanent("Broken")) } else { Err(Error::msg("Passing")) }
    }
    for handler in handlers![fails, fails_with_ours] {
        let passing = Ended::failed(FailureKind::Error, "Passing");
        assert_eq!(play(handler).endings(), [Ended::failed(FailureKind::Permanent, "Broken"), passing.clone(), passing]);
    }
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    #[subscribe]
    async fn reads(_job: &Job) {}
    let script = Script::new(vec![json("job", 1, "7"), json("job", 1, "{"), json("job", 2, "7")]).play_with(handlers![reads][0]);
    let kinds: Vec<_> = script
        .endings()
        .into_iter()
        .map(|ended| match ended {
            Ended::Failed { kind, .. } => Some(kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [None, Some(FailureKind::Undecodable), Some(FailureKind::Version)]);
}
