//! Shutdown: drain, deadline, release, and nothing left behind.

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::Broker;
use abe_events::broker::memory::MemoryBroker;
use abe_events::runtime::{RuntimeState, Stopped};
use abe_events::{Batch, Context, ErrorKind, Result, event, handlers, subscribe};

use super::support::{Notes, Ordered, builder, until};

#[event(topic = "it.late")]
#[derive(Clone)]
struct Late(u32);

#[subscribe]
async fn finishes(order: &Ordered, ctx: &Context, notes: &Notes) -> Result<()> {
    notes.add(format!("begins {}", order.number));
    tokio::time::sleep(Duration::from_millis(300)).await;
    ctx.publish(Late(order.number)).await?;
    notes.add(format!("ends {}", order.number));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a18_a_drain_lets_what_runs_finish_with_a_live_context_and_starts_nothing_new() {
    let (broker, notes) = (Arc::new(MemoryBroker::new()), Notes::default());
    let runtime = builder().broker(broker.clone()).handlers(handlers![finishes]).state(notes.clone()).start().await.unwrap();
    assert_eq!(runtime.state(), RuntimeState::Running);
    runtime.publish_all([Ordered::new(1), Ordered::new(2)]).await.unwrap();
    until("the first runs", || notes.len() == 1).await;
    assert_eq!(runtime.stop().await, Stopped::Drained);
    assert_eq!(notes.all(), ["begins 1", "ends 1"]);
    assert_eq!(runtime.state(), RuntimeState::Stopped);
    let topics = runtime.monitor().topics;
    assert!(topics.iter().any(|topic| topic.topic == "it.late" && topic.published == 1), "{topics:?}");
    assert_eq!(runtime.publish(Ordered::new(3)).await.unwrap_err().kind(), ErrorKind::Closed);
    // The second was not started: it is there for the next instance, on its first attempt.
    let next = builder().broker(broker.clone()).handlers(handlers![finishes]).state(notes.clone()).start().await.unwrap();
    until("the next instance is through", || notes.len() == 4).await;
    assert_eq!(notes.all()[2..], ["begins 2", "ends 2"]);
    next.stop().await;
    broker.close().await.unwrap();
}

#[subscribe(timeout = "none")]
async fn never(_: &Ordered, notes: &Notes) {
    notes.add("begins");
    std::future::pending::<()>().await;
}

#[subscribe(name = "it.never")]
async fn never_2(order: &Ordered, ctx: &Context, notes: &Notes) {
    notes.add(format!("{} attempt {}", order.number, ctx.attempt()));
}

#[subscribe(name = "it.never", timeout = "none")]
async fn never_1(_: &Ordered, notes: &Notes) {
    notes.add("begins");
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn a19_at_the_deadline_the_handler_is_named_and_its_message_released_without_an_attempt() {
    let (broker, notes) = (Arc::new(MemoryBroker::new()), Notes::default());
    let grace = Duration::from_secs(5);
    let runtime =
        builder().broker(broker.clone()).shutdown_grace(grace).handlers(handlers![never_1]).state(notes.clone()).start().await.unwrap();
    runtime.publish(Ordered::new(1)).await.unwrap();
    until("it runs", || notes.len() == 1).await;
    let began = tokio::time::Instant::now();
    assert_eq!(runtime.stop().await, Stopped::Cut { handlers: vec!["it.never".into()] });
    assert!(began.elapsed() >= grace && began.elapsed() <= grace + Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(runtime.dead_letters().count().await.unwrap(), 0);
    let next = builder().broker(broker.clone()).handlers(handlers![never_2]).state(notes.clone()).start().await.unwrap();
    until("the next instance has it", || notes.len() == 2).await;
    assert_eq!(notes.all()[1], "1 attempt 1");
    next.stop().await;
}

#[subscribe(timeout = "none")]
async fn keeps_its_thread(order: &Ordered, notes: &Notes) {
    notes.add("begins");
    let until = std::time::Instant::now() + Duration::from_millis(2500);
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
    notes.add(order.number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_a_handler_that_keeps_its_thread_is_named_and_left_behind_and_its_message_is_not_lost() {
    let (broker, notes) = (Arc::new(MemoryBroker::new()), Notes::default());
    let grace = Duration::from_millis(100);
    let runtime = builder()
        .broker(broker.clone())
        .shutdown_grace(grace)
        .handlers(handlers![keeps_its_thread])
        .state(notes.clone())
        .start()
        .await
        .unwrap();
    runtime.publish(Ordered::new(7)).await.unwrap();
    until("it runs", || notes.len() == 1).await;
    let began = std::time::Instant::now();
    let ended = runtime.stop().await;
    assert!(matches!(&ended, Stopped::Cut { handlers } if handlers.len() == 1), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // It is neither handled nor given up yet, and still accounted for; when it gets that far it is settled.
    assert_eq!((runtime.monitor().total().pending, notes.len()), (1, 1));
    until("the late verdict is carried out", || runtime.monitor().total().pending == 0).await;
    assert_eq!((runtime.monitor().total().succeeded, notes.all()[1].as_str()), (1, "7"));
}

#[subscribe(batch = 50, max_wait = "1h")]
async fn waits_for_more(orders: Batch<Ordered>, notes: &Notes) {
    notes.add(orders.len());
}

#[tokio::test(start_paused = true)]
async fn i37_a_half_full_batch_is_flushed_at_shutdown() {
    let notes = Notes::default();
    let runtime = builder().handlers(handlers![waits_for_more]).state(notes.clone()).start().await.unwrap();
    runtime.publish_all((0..20).map(Ordered::new)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(runtime.stop().await, Stopped::Drained);
    assert_eq!(notes.all(), ["20"]);
}

#[subscribe]
async fn quick(order: &Ordered, ctx: &Context, notes: &Notes) {
    tokio::task::yield_now().await;
    // A restart that costs an attempt shows as a number that no event has.
    notes.add(order.number + 1_000_000 * (ctx.attempt() - 1));
}

#[tokio::test(start_paused = true)]
async fn i37_i14_nothing_is_lost_and_no_attempt_spent_over_1_000_rolling_restarts() {
    let (broker, notes) = (Arc::new(MemoryBroker::new()), Notes::default());
    for round in 0..1000 {
        let runtime = builder().broker(broker.clone()).handlers(handlers![quick]).state(notes.clone()).start().await.unwrap();
        runtime.publish_all((0..20).map(|n| Ordered::new(round * 20 + n))).await.unwrap();
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        assert_eq!(runtime.stop().await, Stopped::Drained);
    }
    let last = builder().broker(broker.clone()).handlers(handlers![quick]).state(notes.clone()).start().await.unwrap();
    until("all are handled", || last.monitor().total().pending == 0).await;
    last.stop().await;
    let mut numbers: Vec<u32> = notes.all().iter().map(|note| note.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20_000).collect::<Vec<_>>(), "each exactly once");
}

#[tokio::test(start_paused = true)]
async fn i37_what_a_runtime_s_own_memory_broker_holds_is_handled_before_it_ends() {
    let notes = Notes::default();
    let runtime = builder().handlers(handlers![finishes, waits_for_more]).state(notes.clone()).start().await.unwrap();
    runtime.publish_all((0..30).map(Ordered::new)).await.unwrap();
    let other = runtime.clone();
    let refused = async {
        other.draining().await;
        other.publish(Ordered::new(99)).await.unwrap_err().kind()
    };
    assert_eq!(tokio::join!(runtime.stop(), refused), (Stopped::Drained, ErrorKind::Closed));
    let ended = notes.all().iter().filter(|note| note.starts_with("ends")).count();
    assert_eq!((ended, runtime.monitor().total().pending), (30, 0));
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_and_a_dropped_handle_are_harmless() {
    let runtime = builder().handlers(handlers![quick]).state(Notes::default()).start().await.unwrap();
    let other = runtime.clone();
    let both = tokio::join!(runtime.stop(), other.stop());
    assert_eq!(both, (Stopped::Drained, Stopped::Drained));
    drop(builder().handlers(handlers![never]).state(Notes::default()).start().await.unwrap());
}
