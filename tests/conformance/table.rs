//! The table of cases, how one is run, and how the results are printed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abe_events::broker::{Capabilities, StartPosition};

use crate::bench::{Bench, Boxed, Check, Clock, Harness, Size};
use crate::cases;

/// One promise, put to the test.
pub(crate) struct Case {
    /// Its number: 1–16 are the field's standard, A what was missing there, S the rest of our own contract.
    pub(crate) id: &'static str,
    /// Its name, which is also the name of its test.
    pub(crate) name: &'static str,
    /// The capability it needs, if the broker lacks it.
    pub(crate) lacks: fn(&Capabilities) -> Option<&'static str>,
    /// The case itself.
    pub(crate) run: for<'a, 'b> fn(&'a Bench<'b>) -> Boxed<'a, Check<Outcome>>,
}

/// How a case that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It held.
    Pass,
    /// It does not apply, and why.
    NotApplicable(&'static str),
}

/// What a case may return: nothing, or an outcome of its own.
pub(crate) trait IntoOutcome {
    /// The outcome.
    fn into_outcome(self) -> Outcome;
}
impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Pass
    }
}
impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

fn always(_: &Capabilities) -> Option<&'static str> {
    None
}
fn ordered(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.ordered).then_some("ordered")
}
fn competing(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.competing_consumers).then_some("competing_consumers")
}
fn fencing(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.fencing).then_some("fencing")
}
fn earliest(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.start.contains(&StartPosition::Earliest)).then_some("start: earliest")
}
fn bounded(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.bounded_queues).then_some("bounded_queues")
}
fn wildcards(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.wildcards).then_some("wildcards")
}

/// The one list of cases: hands it to a macro, so that the table and the tests cannot drift apart.
macro_rules! for_each_case {
    ($then:ident) => {
        $then! {
            "1" publish_subscribe in delivery, always;
            "2" concurrent_subscribe in delivery, always;
            "3" concurrent_subscribe_multiple_topics in delivery, always;
            "4" resend_on_error in retry, always;
            "5" no_ack in order, ordered;
            "6" continue_after_close in closing, always;
            "7" concurrent_close in closing, always;
            "8" continue_after_errors in retry, always;
            "9" publish_subscribe_in_order in order, ordered;
            "10" publisher_done in delivery, always;
            "11" topic in delivery, always;
            "12" delivery_ends_with_its_consumer in closing, always;
            "13" cancelled_receive in closing, always;
            "14" new_subscriber_receives_old_messages in groups, earliest;
            "16" consumer_groups in groups, always;
            "A1" ack_part_then_close in closing, always;
            "A2" ack_part_then_lease_ends in lease, always;
            "A3" ack_part_then_die in lease, always;
            "A4" partial_batch in retry, always;
            "A5" retry_delay in retry, always;
            "A6" attempt_visible in retry, always;
            "A8" dead_letter_refused in dead_letter, always;
            "A10" unknown_topic in delivery, always;
            "A11" after_close in closing, always;
            "A12" fidelity in delivery, always;
            "A13" unsettled_bound in bounds, always;
            "A14" real_parallelism in order, competing;
            "A15" order_per_key_under_concurrency in order, ordered;
            "A16" order_of_one_publisher in order, always;
            "A17" backpressure in bounds, bounded;
            "A20" leak in bounds, always;
            "A26" start_position in groups, always;
            "A27" lease_renewal in lease, always;
            "A28" stale_settlement in lease, fencing;
            "A29" publish_many in bounds, bounded;
            "A30" slow_group in groups, always;
            "S1" delayed_publish in retry, always;
            "S2" release_is_no_attempt in retry, always;
            "S3" fates_are_separate in groups, always;
            "S4" dead_letter_kept_whole in dead_letter, always;
            "S5" dead_letter_replayed in dead_letter, always;
            "S6" dead_letter_purged in dead_letter, always;
            "S7" full_fails in bounds, bounded;
            "S8" full_sheds in bounds, bounded;
            "S9" full_by_bytes in bounds, bounded;
            "S10" depth_adds_up in bounds, always;
            "S11" wildcards_match in groups, wildcards;
            "S12" order_waits_for_retry in order, ordered;
            "S13" hostile_inputs in hostile, always;
        }
    };
}
pub(crate) use for_each_case;

macro_rules! table {
    ($($id:literal $name:ident in $module:ident, $gate:ident;)*) => {
        /// All cases.
        pub(crate) const CASES: &[Case] = &[$(Case {
            id: $id,
            name: stringify!($name),
            lacks: $gate,
            run: |bench| Box::pin(async move { cases::$module::$name(bench).await.map(IntoOutcome::into_outcome) }),
        }),*];
    };
}
for_each_case!(table);

/// Runs a case on a runtime of its own, with the harness's clock.
///
/// # Errors
///
/// Why it failed; a panic and a hang count as failures.
pub(crate) fn run(case: &'static Case, harness: Arc<dyn Harness>, size: Size) -> Result<Outcome, String> {
    let runtime = match harness.clock() {
        Clock::Paused => tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build(),
        Clock::Real => tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build(),
    }
    .map_err(|error| error.to_string())?;
    // Only to find what hangs: a thousand commits take minutes on a loaded machine.
    let limit = Duration::from_secs(if harness.clock() == Clock::Paused { 24 * 60 * 60 } else { 600 });
    let task = runtime.spawn(async move {
        let bench = Bench::open(&*harness, size).await?;
        let lacks = (case.lacks)(bench.broker.capabilities());
        match lacks {
            Some(capability) => Ok(Outcome::NotApplicable(capability)),
            None => (case.run)(&bench).await,
        }
    });
    let ended = runtime.block_on(async { tokio::time::timeout(limit, task).await });
    runtime.shutdown_background();
    match ended {
        Err(_late) => Err(format!("did not end within {limit:?}")),
        Ok(Err(panic)) => Err(format!("panicked: {panic}")),
        Ok(Ok(Err(fault))) => Err(fault.0),
        Ok(Ok(Ok(outcome))) => Ok(outcome),
    }
}

/// Runs all cases and answers the printed table and how many failed.
///
/// On the wall clock eight at a time, as they mostly wait; each has a broker and a runtime of its own.
pub(crate) fn run_all(harness: &Arc<dyn Harness>, size: Size) -> (String, usize) {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<Outcome, String>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..if harness.clock() == Clock::Real { 8 } else { 1 } {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::SeqCst)
                    && let Some(case) = CASES.get(at)
                {
                    let result = run(case, harness.clone(), size);
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = CASES.len() - results.values().filter(|result| result.is_ok()).count();
    let line = |(at, result): (&usize, &Result<Outcome, String>)| {
        let verdict = match result {
            Ok(Outcome::Pass) => "pass".to_owned(),
            Ok(Outcome::NotApplicable(why)) => format!("n/a ({why})"),
            Err(fault) => format!("FAIL {fault}"),
        };
        format!("  {:<4} {:<40} {verdict}\n", CASES[*at].id, CASES[*at].name)
    };
    let lines: String = results.iter().map(line).collect();
    (format!("conformance of {} ({size:?})\n{lines}  {} cases, {failed} failed\n", harness.title(), CASES.len()), failed)
}
