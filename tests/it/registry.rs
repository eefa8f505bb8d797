//! I47: what is linked is found, and what is wrong is told at start, with its place and its cure.

use abe_events::testing::TestBus;
use abe_events::{Batch, Error, Event, State, event, handlers, runtime, subscribe};

use super::support::{Notes, Ordered, builder};

#[derive(Debug)]
struct NeverGiven;

#[subscribe]
async fn needs_state(_: &Ordered, _missing: State<NeverGiven>, _also: &Notes) {}

async fn refusal(bus: TestBus, handlers: &[&'static abe_events::handler::HandlerDescriptor]) -> String {
    bus.handlers(handlers.iter().copied()).start_error().await.to_string()
}

#[abe_events::test]
async fn missing_state_is_one_start_error_that_names_handler_type_and_line(bus: TestBus) {
    let error = refusal(bus, handlers![needs_state]).await;
    for part in ["needs_state", "NeverGiven", "Notes", ".state(", "registry.rs:"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[subscribe(name = "twin")]
async fn first_twin(_: &Ordered) {}
#[subscribe(name = "twin")]
async fn second_twin(_: &Ordered) {}

#[abe_events::test]
async fn i47_a_name_used_twice_is_told_with_both_places(bus: TestBus) {
    let error = refusal(bus, handlers![first_twin, second_twin]).await;
    assert!(error.contains("`twin`") && error.matches("registry.rs:").count() >= 2, "{error}");
}

#[abe_events::test]
async fn i47_zero_handlers_are_a_start_error_with_the_cure(bus: TestBus) {
    let error = refusal(bus, &[]).await;
    assert!(error.contains("no handler"), "{error}");
}

#[event(topic = "it.gap", version = 1)]
#[derive(Clone)]
struct GapOld {}
#[event(topic = "it.gap", version = 2)]
#[derive(Clone)]
struct GapNew {}

#[subscribe]
async fn takes_new(_: &GapNew) {}
#[subscribe]
async fn takes_old(_: &GapOld) {}

#[abe_events::test]
async fn a_version_without_an_upcast_path_is_told_with_both_places(bus: TestBus) {
    let error = refusal(bus, handlers![takes_new, takes_old]).await;
    assert!(error.contains("no upcast path") && error.contains("upcast_from"), "{error}");
    assert!(GapOld::DESCRIPTOR.version < GapNew::DESCRIPTOR.version);
}

#[subscribe(batch = 10)]
async fn collects(_: Batch<Ordered>) {}

#[abe_events::test]
async fn configuration_is_checked_against_the_handlers(bus: TestBus) {
    let mut config = abe_events::config::Config::default();
    config.handlers.insert("colects".into(), abe_events::policy::PolicyPatch::NONE);
    let error = bus.handlers(handlers![collects]).configure(|builder| builder.config(config)).start_error().await.to_string();
    assert!(error.contains("colects") && error.contains("collects"), "{error}");
}

#[abe_events::test]
async fn a_policy_that_makes_no_sense_is_told(bus: TestBus) {
    let patch = abe_events::policy::PolicyPatch { attempts: Some(0), batch: Some(5), ..abe_events::policy::PolicyPatch::NONE };
    let error = bus.handlers(handlers![first_twin]).defaults(patch).start_error().await.to_string();
    assert!(error.contains("attempts") && error.contains("Batch"), "{error}");
}

#[event(topic = "it.loop_a")]
#[derive(Clone)]
struct LoopA {}
#[event(topic = "it.loop_b")]
#[derive(Clone)]
struct LoopB {}
#[subscribe]
async fn a_to_b(_: &LoopA) -> LoopB {
    LoopB {}
}
#[subscribe]
async fn b_to_a(_: &LoopB) -> Result<Option<LoopA>, Error> {
    Ok(None)
}

#[test]
fn a_publish_cycle_is_named_by_check() {
    let report = builder().handlers(handlers![a_to_b, b_to_a]).check().unwrap();
    let text = report.to_string();
    assert!(text.contains("publish cycle") && text.contains("a_to_b") && text.contains("b_to_a"), "{text}");
}

#[test]
fn i47_every_handler_of_this_binary_is_listed_with_its_place() {
    let listed = runtime::describe();
    for name in ["registry.needs_state", "delivery.borrowed", "batches.collect", "ordering.in_order"] {
        assert!(listed.contains(name), "{name} in\n{listed}");
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told_without_its_password() {
    let error = builder().url("postgres://u:hunter2@localhost/db").handlers(handlers![collects]).start().await.unwrap_err();
    assert!(!error.to_string().contains("hunter2") && error.to_string().contains("postgres"), "{error}");
}

#[tokio::test]
async fn a_file_and_the_builder_change_policies_without_recompiling() {
    let folder = std::env::temp_dir().join(format!("abe-events-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.yaml");
    let text = "event:\n  output_buffer: 7\n  defaults:\n    concurrency: 2\n  handlers:\n    twin: {concurrency: 3, retry: {attempts: 9}, timeout: 5s}\n";
    std::fs::write(&file, text).unwrap();
    let report = abe_events::Runtime::builder().config_file(&file).handlers(handlers![first_twin, collects]).check().unwrap();
    let policy = |name: &str| report.handlers.iter().find(|handler| handler.name.ends_with(name)).unwrap().policy.clone();
    assert_eq!(policy("twin"), "concurrency 3, attempts 9, timeout 5s, buffer 7");
    assert!(policy("collects").starts_with("concurrency 2, attempts 5, timeout 30s, batch 10"), "{}", policy("collects"));
    let report = abe_events::Runtime::builder().config_file(&file).output_buffer(9).handlers(handlers![first_twin]).check().unwrap();
    assert!(report.handlers[0].policy.ends_with("buffer 9"), "{report}");
    std::fs::write(&file, "event:\n  handlers:\n    twin: {conurrency: 3}\n").unwrap();
    let error = abe_events::Runtime::builder().config_file(&file).handlers(handlers![first_twin]).start().await.unwrap_err().to_string();
    assert!(error.contains("conurrency") && error.contains("concurrency") && error.contains("config.yaml:3"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
