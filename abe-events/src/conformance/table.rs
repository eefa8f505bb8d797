//! The table of cases: number, name, where it is written, and the capability it needs.

use std::future::Future;
use std::pin::Pin;

use super::Outcome;
use super::bench::Bench;
use super::cases;
use super::tools::Check;
use crate::broker::{Capabilities, Durability, StartPosition};

/// One promise, put to the test.
pub(crate) struct Case {
    /// Its number: 1–16 are the field's standard, A what was missing there, S the rest of our own contract.
    pub(crate) id: &'static str,
    /// Its name, which is also the name of its test.
    pub(crate) name: &'static str,
    /// The capability it needs, if the broker lacks it.
    pub(crate) lacks: fn(&Capabilities) -> Option<&'static str>,
    /// The case itself.
    pub(crate) run: for<'a> fn(&'a Bench) -> Ending<'a>,
}

/// A case that runs.
type Ending<'a> = Pin<Box<dyn Future<Output = Check<Outcome>> + Send + 'a>>;

/// What a case may return: nothing, or an outcome of its own.
trait IntoOutcome {
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

fn lacking(capabilities: &Capabilities) -> Option<&'static str> {
    (capabilities.ordered && capabilities.leases_optional && capabilities.wildcards).then_some("all it asks for is declared")
}
fn lasting(capabilities: &Capabilities) -> Option<&'static str> {
    (capabilities.durability < Durability::Restart).then_some("durability: restart")
}

/// The one list of cases: hands it to a macro, after what that macro is to know besides, so that the table and the tests
/// cannot drift apart.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ([$($then:tt)+] [$($besides:tt)*]) => {
        $($then)+! {
            [$($besides)*]
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
            "S14" survives_a_restart in restart, lasting;
            "S15" undeclared_is_refused in groups, lacking;
        }
    };
}

macro_rules! table {
    ([] $($id:literal $name:ident in $module:ident, $gate:ident;)*) => {
        /// All cases.
        pub(crate) const CASES: &[Case] = &[$(Case {
            id: $id,
            name: stringify!($name),
            lacks: $gate,
            run: |bench| Box::pin(async move { cases::$module::$name(bench).await.map(IntoOutcome::into_outcome) }),
        }),*];
    };
}
__conformance_cases!([table] []);

/// The cases of a name or a number, or else all whose name contains the text.
pub(crate) fn selected(part: &str) -> Vec<&'static Case> {
    let exact: Vec<&Case> = CASES.iter().filter(|case| case.name == part || case.id == part).collect();
    if exact.is_empty() { CASES.iter().filter(|case| case.name.contains(part)).collect() } else { exact }
}
