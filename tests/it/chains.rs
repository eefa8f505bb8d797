//! What a handler publishes is an effect of its message, whatever handle it publishes with.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abe_events::broker::FailureKind;
use abe_events::handler::HandlerDescriptor;
use abe_events::testing::TestBus;
use abe_events::{Batch, Context, Id, Message, Result, Runtime, event, handlers, subscribe};

use crate::support::{Notes, builder};

/// A runtime in a state: known once it has started.
#[derive(Default, Clone)]
struct Handle(Arc<OnceLock<Runtime>>);

impl Handle {
    fn runtime(&self) -> &Runtime {
        self.0.get().unwrap()
    }
}

#[event(topic = "it.round")]
struct Round {
    n: u32,
}

/// Publishes itself again, so often that only the hop limit can be what ends it.
#[subscribe]
async fn round(event: &Round, handle: &Handle) -> Result<()> {
    if event.n < 100 {
        handle.runtime().publish(Round { n: event.n + 1 }).await?;
    }
    Ok(())
}

#[subscribe(batch = 5, max_wait = "1ms")]
async fn batched_round(events: Batch<Round>, handle: &Handle) -> Result<()> {
    if events[0].n < 100 {
        handle.runtime().publish_all([Round { n: events[0].n + 1 }]).await?;
    }
    Ok(())
}

#[abe_events::test]
async fn i42_a_loop_through_a_runtime_in_a_state_ends_in_a_dead_letter(bus: TestBus) {
    let handle = Handle::default();
    let bus = bus.configure(|builder| builder.max_hops(9)).handlers(handlers![round]).state(handle.clone()).start().await;
    assert!(handle.0.set(bus.runtime().clone()).is_ok());
    let id = bus.publish(Round { n: 0 }).await;
    bus.settled().await;
    let letters = bus.dead_letters().await;
    assert_eq!((bus.handled("round"), letters.len()), (10, 1));
    assert_eq!((letters[0].failures[0].kind, letters[0].message.hops()), (FailureKind::HopLimit, 10));
    assert_eq!(letters[0].message.correlation_id(), &id);
    assert!(letters[0].reason().contains("it.round → it.round → it.round"), "{}", letters[0].reason());
}

/// A runtime as programs have it: without the test kit's looking on, messages are handed out in runs.
async fn started(handlers: &[&'static HandlerDescriptor], notes: &Notes) -> Runtime {
    let handle = Handle::default();
    let builder = builder().max_hops(9).handlers(handlers).state(handle.clone()).state(notes.clone());
    let runtime = builder.start().await.unwrap();
    assert!(handle.0.set(runtime.clone()).is_ok());
    runtime
}

#[tokio::test]
async fn i42_a_loop_ends_on_the_short_way_and_in_batches_too() {
    for handlers in [handlers![round], handlers![batched_round]] {
        let runtime = started(handlers, &Notes::default()).await;
        let id = runtime.publish(Round { n: 0 }).await.unwrap();
        runtime.settled().await;
        let letters = runtime.dead_letters().list(&Default::default()).await.unwrap();
        assert_eq!((letters.len(), letters[0].message.hops(), letters[0].message.correlation_id()), (1, 10, &id));
        assert_eq!(letters[0].failures[0].kind, FailureKind::HopLimit);
        runtime.stop().await;
    }
}

#[event(topic = "it.asked")]
struct Asked;

/// What is published, how, and what it should say of its cause.
#[event(topic = "it.answered")]
#[derive(Clone)]
struct Answered {
    way: String,
    cause: String,
}

impl Answered {
    fn new(way: &str, cause: Option<&Id>) -> Self {
        Self { way: way.into(), cause: text(cause) }
    }
}

fn text(id: Option<&Id>) -> String {
    id.map_or_else(|| "none".to_owned(), Id::to_string)
}

/// Notes the way, and what is not as it should be.
#[subscribe]
async fn heard(event: &Answered, ctx: &Context, notes: &Notes) {
    let cause = text(ctx.causation_id());
    // One step from what was asked, or the beginning.
    let origin = if event.cause == "none" { ctx.id().to_string() } else { event.cause.clone() };
    let whole = cause == event.cause && ctx.correlation_id().to_string() == origin && ctx.hops() == u32::from(event.cause != "none");
    notes.add(if whole { event.way.clone() } else { format!("{}: caused by {cause}, not {}", event.way, event.cause) });
}

#[subscribe]
async fn answers(_: &Asked, ctx: &Context, handle: &Handle) -> Result<()> {
    let (runtime, id) = (handle.runtime().clone(), ctx.id().clone());
    runtime.publish(Answered::new("publish", Some(&id))).await?;
    runtime.publish_all([Answered::new("publish_all", Some(&id))]).await?;
    runtime.publishing(Answered::new("publishing", Some(&id))).send().await?;
    tokio::time::sleep(Duration::from_millis(1)).await;
    runtime.publish(Answered::new("after a wait", Some(&id))).await?;
    runtime.publishing(Answered::new("a new chain", None)).new_chain().send().await?;
    let whole = Message::json("it.answered", 1, r#"{"way": "a whole message", "cause": "none"}"#)?;
    runtime.publish_message(whole).await?;
    let spawned = tokio::spawn(async move { runtime.publish(Answered::new("a spawned task", None)).await.map(drop) });
    spawned.await.unwrap()
}

#[subscribe(blocking)]
fn blocks(_: &Asked, ctx: &Context, handle: &Handle) -> Result<()> {
    let answer = Answered::new("a blocking handler", Some(ctx.id()));
    tokio::runtime::Handle::current().block_on(handle.runtime().publish(answer)).map(drop)
}

#[tokio::test]
async fn every_way_of_publishing_names_its_cause_and_a_spawned_task_begins_a_chain() {
    let notes = Notes::default();
    let runtime = started(handlers![answers, blocks, heard], &notes).await;
    runtime.publish(Asked).await.unwrap();
    runtime.settled().await;
    let mut ways = notes.all();
    ways.sort();
    let expected = "a blocking handler|a new chain|a spawned task|a whole message|after a wait|publish|publish_all|publishing";
    assert_eq!(ways.join("|"), expected);
    runtime.stop().await;
}

#[subscribe(concurrency = 4)]
async fn answers_late(_: &Asked, ctx: &Context, handle: &Handle) -> Result<()> {
    let id = ctx.id().clone();
    for n in 0..3 {
        tokio::time::sleep(Duration::from_micros(u64::from(ctx.id().to_string().as_bytes()[35] % 5) * 300)).await;
        handle.runtime().publish(Answered::new(&format!("late {n}"), Some(&id))).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_wait_beside_each_other_keep_their_causes_apart() {
    let notes = Notes::default();
    let runtime = started(handlers![answers_late, heard], &notes).await;
    let outside = runtime.clone();
    let outside = tokio::spawn(async move {
        for _ in 0..200 {
            outside.publish(Answered::new("outside", None)).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..100 {
        runtime.publish(Asked).await.unwrap();
    }
    outside.await.unwrap();
    runtime.settled().await;
    let ways = notes.all();
    let of = |way: &str| ways.iter().filter(|noted| *noted == way).count();
    assert_eq!([of("outside"), of("late 0"), of("late 1"), of("late 2"), ways.len()], [200, 100, 100, 100, 500], "{ways:?}");
    runtime.stop().await;
}
