//! Handlers on runs of messages: one guard and one stretch of user code for many, and yet each message has its own fate.

use abe_events::broker::FailureKind;
use abe_events::handler::{Ended, Interrupt};
use abe_events::{Error, Message, Result, event, handlers, subscribe};

use crate::script::{Script, json, typed};

#[event(topic = "run.step")]
struct Step {
    what: String,
}

#[event(topic = "run.stepped")]
struct Stepped {
    number: u32,
}

fn step(what: &str) -> Message {
    typed(Step { what: what.to_owned() })
}

fn wanted(step: &Step) -> bool {
    assert_ne!(step.what, "filter panics");
    step.what != "unwanted"
}

#[subscribe(filter = wanted)]
async fn steps(step: &Step) -> Result<Option<Stepped>> {
    match step.what.as_str() {
        "fails" => return Err(Error::msg("no")),
        "panics" => panic!("as asked"),
        "waits" => tokio::task::yield_now().await,
        "never ends" => std::future::pending().await,
        "publishes" => return Ok(Some(Stepped { number: 1 })),
        _ => {}
    }
    Ok(None)
}

fn kind_of(ended: &Ended) -> Option<FailureKind> {
    match ended {
        Ended::Failed { kind, .. } => Some(*kind),
        _ => None,
    }
}

#[test]
fn each_message_of_a_run_has_its_own_fate_wherever_it_stands() {
    let troubles = [
        ("fails", Some(FailureKind::Error)),
        ("panics", Some(FailureKind::Panic)),
        ("filter panics", Some(FailureKind::Panic)),
        ("never ends", Some(FailureKind::Timeout)),
        ("publishes", None),
        ("waits", None),
        ("unwanted", None),
    ];
    for (what, expected) in troubles {
        for at in 0..4 {
            let messages: Vec<Message> = (0..4).map(|n| step(if n == at { what } else { "well" })).collect();
            let mut script = Script::new(messages).lending();
            script.interrupt = (what == "never ends").then_some(Interrupt::Timeout);
            let played = script.play_with(handlers![steps][0]);
            let endings = played.endings();
            for (n, ended) in endings.iter().enumerate() {
                assert_eq!(kind_of(ended), if n == at { expected } else { None }, "{what} at {at}: {n}");
                assert!(expected.is_some() && n == at || *ended == Ended::Success, "{what} at {at}: {n}");
            }
            assert_eq!(played.filtered, usize::from(what == "unwanted"), "{what} at {at}");
            assert_eq!(played.published.len(), usize::from(what == "publishes"), "{what} at {at}");
        }
    }
}

#[test]
fn a_panic_says_where_it_was_and_what_cannot_be_read_is_final() {
    let messages =
        vec![step("well"), step("filter panics"), step("panics"), json("run.step", 1, "{"), json("run.step", 9, "{}"), step("well")];
    let endings = Script::new(messages).lending().play_with(handlers![steps][0]).endings();
    let texts: Vec<String> = endings.iter().map(|ended| format!("{ended:?}")).collect();
    assert!(texts[1].contains("the filter or the decoding panicked") && texts[2].contains("the handler panicked: as asked"), "{texts:?}");
    let kinds: Vec<Option<FailureKind>> = endings.iter().map(kind_of).collect();
    assert_eq!(kinds[3..], [Some(FailureKind::Undecodable), Some(FailureKind::Version), None]);
}

#[test]
fn what_ended_before_a_handler_waits_is_acked_before_it_waits() {
    let played = Script::new(vec![step("well"), step("unwanted"), step("waits"), step("well")]).lending().play_with(handlers![steps][0]);
    assert_eq!(played.acks, [(2, 1), (2, 0)]);
    assert!(played.calls.iter().all(|call| *call != "done"), "nothing but acks: {:?}", played.calls);
}

#[test]
fn an_attempt_that_is_cancelled_in_a_run_gives_its_message_back_and_costs_the_others_nothing() {
    let mut script = Script::new(vec![step("well"), step("never ends"), step("well")]).lending();
    script.interrupt = Some(Interrupt::Cancelled);
    assert_eq!(script.play_with(handlers![steps][0]).endings(), [Ended::Success, Ended::Cancelled, Ended::Success]);
}
