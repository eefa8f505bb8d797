//! Batches: how they fill, and how their messages end.

use std::sync::{Arc, Mutex};

use abe_events::broker::FailureKind;
use abe_events::handler::{Ended, HandlerDescriptor, InboxKey, States};
use abe_events::{Batch, BatchOutcome, Message, Outcome, Result, event, handlers, subscribe};

use crate::script::{Script, bind, json, typed};

#[event(topic = "item")]
pub(crate) struct Item(u32);

fn items(count: u32) -> Vec<Message> {
    (0..count).map(|number| typed(Item(number))).collect()
}

#[derive(Default)]
struct Seen(Mutex<Vec<Vec<u32>>>);

#[subscribe(filter = |item| item.0 != 100)]
async fn collects(items: Batch<Item>, seen: &Seen) -> Result<(), String> {
    assert_eq!(items.len(), items.messages().len());
    let numbers: Vec<u32> = items.iter().map(|item| item.0).collect();
    seen.0.lock().unwrap().push(numbers.clone());
    if numbers.contains(&13) { Err("thirteen".into()) } else { Ok(()) }
}

/// Plays a script with `collects`, and answers the batches it saw.
fn play(script: Script) -> (Script, Vec<Vec<u32>>) {
    let (mut states, seen) = (States::default(), Arc::new(Seen::default()));
    states.insert(seen.clone());
    let script = script.play(&bind(collector(), &states));
    let batches = seen.0.lock().unwrap().clone();
    (script, batches)
}

fn collector() -> &'static HandlerDescriptor {
    handlers![collects][0]
}

#[test]
fn a_batch_is_full_by_number() {
    let mut script = Script::new(items(5));
    script.batch_max = 2;
    let (script, batches) = play(script);
    assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(script.endings(), vec![Ended::Success; 5]);
}

#[test]
fn a_batch_is_full_by_bytes_but_holds_at_least_one() {
    let weight = items(1)[0].weight();
    for (bytes, sizes) in [(1, vec![1, 1, 1, 1]), (weight * 2, vec![2, 2]), (weight * 3 - 1, vec![2, 2]), (weight * 9, vec![4])] {
        let mut script = Script::new(items(4));
        (script.batch_max, script.batch_bytes_max) = (10, bytes);
        let (_, batches) = play(script);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
    }
}

#[test]
fn what_is_filtered_or_unreadable_takes_no_place() {
    let mut messages = vec![typed(Item(100)), typed(Item(1)), json("item", 1, "{"), typed(Item(100))];
    messages.extend(items(1));
    let mut script = Script::new(messages);
    script.batch_max = 2;
    let (script, batches) = play(script);
    assert_eq!(batches, [vec![1, 0]]);
    assert_eq!(script.calls.iter().filter(|call| **call == "batch_begins").count(), 1);
    let endings = script.endings();
    assert!(endings[0] == Ended::Filtered && endings[1] == Ended::Success && endings[4] == Ended::Success);
    assert!(matches!(endings[2], Ended::Failed { kind: FailureKind::Undecodable, .. }));
}

#[test]
fn a_failed_batch_fails_for_all_and_from_the_third_attempt_each_runs_alone() {
    let messages = || vec![typed(Item(1)), typed(Item(13)), typed(Item(2))];
    let mut script = Script::new(messages());
    script.batch_max = 10;
    let (script, _) = play(script);
    assert_eq!(script.endings(), vec![Ended::failed(FailureKind::Error, "thirteen"); 3]);

    let mut script = Script::with_attempts(messages().into_iter().map(|message| (message, 3)).collect());
    script.batch_max = 10;
    let (script, batches) = play(script);
    assert_eq!(batches, [vec![1], vec![13], vec![2]]);
    assert_eq!(script.endings(), [Ended::Success, Ended::failed(FailureKind::Error, "thirteen"), Ended::Success]);

    let mut script = Script::with_attempts(vec![(typed(Item(1)), 1), (typed(Item(2)), 3), (typed(Item(3)), 1), (typed(Item(4)), 2)]);
    script.batch_max = 10;
    let (script, batches) = play(script);
    assert_eq!(batches, [vec![1], vec![2], vec![3, 4]]);
    assert!(script.calls.contains(&"put_back"));
}

#[test]
fn a_duplicate_within_a_batch_is_not_in_it() {
    let first = typed(Item(1));
    let mut script = Script::new(vec![first.clone(), typed(Item(2)), typed(Item(3))]);
    (script.batch_max, script.idempotent) = (10, true);
    script.applied.insert(InboxKey::Id(first.id().clone()));
    let (script, batches) = play(script);
    assert_eq!(batches, [vec![2, 3]]);
    assert_eq!(script.endings(), [Ended::Duplicate, Ended::Success, Ended::Success]);
    assert!(script.busy.is_empty(), "every reserved key was given back");
}

#[test]
fn each_item_may_have_its_own_outcome() {
    #[subscribe]
    async fn decides(items: Batch<Item>) -> Result<BatchOutcome, String> {
        let mut outcome = BatchOutcome::others(Outcome::ack());
        for (index, item) in items.iter().enumerate() {
            if item.0 % 2 == 1 {
                outcome.set(index, Outcome::reject(format!("{} is odd", item.0)));
            }
        }
        Ok(outcome)
    }
    #[subscribe]
    async fn points_beyond(items: Batch<Item>) -> BatchOutcome {
        BatchOutcome::others(Outcome::ack()).item(items.len(), Outcome::retry())
    }
    #[subscribe]
    async fn lists(items: Batch<Item>) -> BatchOutcome {
        items.iter().map(|_| Outcome::ack()).take(1).collect()
    }
    let play = |handler: &HandlerDescriptor| {
        let mut script = Script::new(items(3));
        script.batch_max = 3;
        script.play_with(handler).endings()
    };
    assert_eq!(play(handlers![decides][0]), [Ended::Success, Ended::failed(FailureKind::Rejected, "1 is odd"), Ended::Success]);
    assert!(play(handlers![points_beyond][0]).iter().all(|ended| matches!(ended, Ended::Failed { kind: FailureKind::Error, .. })));
    let listed = play(handlers![lists][0]);
    assert!(listed[0] == Ended::Success && listed[1] == listed[2] && matches!(listed[1], Ended::Failed { .. }));
}
