//! I39: waiting publishers, and cycles that never hang. Bounded memory is measured in tests/heavy.

use std::sync::Arc;
use std::time::Duration;

use abe_events::policy::{PolicyPatch, WhenFull};
use abe_events::{Context, ErrorKind, Result, event, handlers, subscribe};
use tokio::sync::Semaphore;

use super::support::{Notes, Ordered, builder, until};

struct Permits(Semaphore);

#[subscribe(timeout = "none")]
async fn stalls(order: &Ordered, permits: &Permits, notes: &Notes) {
    permits.0.acquire().await.unwrap().forget();
    notes.add(order.number);
}

#[tokio::test(start_paused = true)]
async fn i39_a_publisher_waits_at_a_full_queue_and_goes_on_when_there_is_room() {
    let (notes, permits) = (Notes::default(), Arc::new(Permits(Semaphore::new(0))));
    let runtime = builder().handlers(handlers![stalls]).state(notes.clone()).shared_state(permits.clone()).start().await.unwrap();
    for number in 0..64 {
        runtime.publish(Ordered::new(number)).await.unwrap();
    }
    let waiting = tokio::time::timeout(Duration::from_secs(60), runtime.publish(Ordered::new(64))).await;
    assert!(waiting.is_err(), "the 65th waits");
    assert_eq!(runtime.monitor().total().accepted, 64);
    permits.0.add_permits(1000);
    runtime.publish_all((100..164).map(Ordered::new)).await.unwrap();
    until("all are handled", || notes.len() == 128).await;
    assert!(runtime.monitor().balances());
    runtime.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i39_by_policy_a_full_queue_fails_or_sheds_and_counts() {
    for when_full in [WhenFull::Fail, WhenFull::Shed] {
        let (notes, permits) = (Notes::default(), Arc::new(Permits(Semaphore::new(0))));
        let patch = PolicyPatch { when_full: Some(when_full), ..PolicyPatch::NONE };
        let runtime =
            builder().defaults(patch).handlers(handlers![stalls]).state(notes.clone()).shared_state(permits.clone()).start().await.unwrap();
        let mut refused = 0;
        for number in 0..100 {
            if let Err(error) = runtime.publish(Ordered::new(number)).await {
                assert_eq!(error.kind(), ErrorKind::Full);
                refused += 1;
            }
        }
        let total = runtime.monitor().total();
        let expected = if when_full == WhenFull::Fail { (36, 0) } else { (0, 36) };
        assert_eq!(((refused, total.shed), total.accepted), (expected, 64));
        permits.0.add_permits(1000);
        until("all are handled", || notes.len() == 64).await;
        assert!(runtime.monitor().balances());
        runtime.stop().await;
    }
}

#[event(topic = "it.cycle_a")]
#[derive(Clone)]
struct A(u32);
#[event(topic = "it.cycle_b")]
#[derive(Clone)]
struct B(u32);
#[event(topic = "it.cycle_c")]
#[derive(Clone)]
struct C(u32);

#[subscribe(timeout = "none")]
async fn a_to_a(event: &A, ctx: &Context) -> Result<()> {
    if event.0 > 0 {
        ctx.publish(A(event.0 - 1)).await?;
    }
    Ok(())
}

#[subscribe(timeout = "none")]
async fn a_to_b(event: &A, ctx: &Context) -> Result<()> {
    if event.0 > 0 {
        ctx.publish(B(event.0 - 1)).await?;
    }
    Ok(())
}

#[subscribe(timeout = "none")]
async fn b_to_a(event: &B) -> Option<A> {
    (event.0 > 0).then(|| A(event.0 - 1))
}

#[subscribe(timeout = "none")]
async fn b_to_c(event: &B, ctx: &Context) -> Result<()> {
    if event.0 > 0 {
        ctx.publish(C(event.0 - 1)).await?;
    }
    Ok(())
}

#[subscribe(timeout = "none", concurrency = 3)]
async fn c_to_a(event: &C) -> Option<A> {
    (event.0 > 0).then(|| A(event.0 - 1))
}

async fn cycle(handlers: &[&'static abe_events::handler::HandlerDescriptor]) {
    let runtime = builder().output_buffer(4).max_hops(64).handlers(handlers.iter().copied()).start().await.unwrap();
    let began = tokio::time::Instant::now();
    // Far more than fits: every queue of the cycle is full while every handler publishes into it.
    for _ in 0..50 {
        runtime.publish(A(20)).await.unwrap();
    }
    until("the cycle is through", || runtime.monitor().total().pending == 0).await;
    let total = runtime.monitor().total();
    assert_eq!(total.succeeded, 50 * 21, "{}", runtime.monitor());
    assert_eq!((total.dead, total.accepted), (0, 50 * 21));
    assert!(began.elapsed() < Duration::from_secs(50), "without waiting for a timeout: {:?}", began.elapsed());
    runtime.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_publishes_into_its_own_full_queue_does_not_hang() {
    cycle(handlers![a_to_a]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cycle_of_two_handlers_over_full_queues_does_not_hang() {
    cycle(handlers![a_to_b, b_to_a]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cycle_of_three_handlers_over_full_queues_does_not_hang() {
    cycle(handlers![a_to_b, b_to_c, c_to_a]).await;
}

#[subscribe]
async fn never_waits(_: &Ordered) {
    // Slower than two threads publish, so that the lane always finds something, and never at an await.
    let until = std::time::Instant::now() + Duration::from_micros(5);
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_lane_that_always_finds_something_leaves_its_thread_to_others_now_and_then() {
    let runtime = builder().output_buffer(4096).handlers(handlers![never_waits]).start().await.unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Without a turn for others nobody could stop the feeders: they give up by themselves, and that is the failure.
    let give_up = std::time::Instant::now() + Duration::from_secs(8);
    let feeders: Vec<_> = (0..2)
        .map(|_| {
            let (runtime, stop) = (runtime.clone(), stop.clone());
            let feed = async move {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) && std::time::Instant::now() < give_up {
                    runtime.publish_all((0..512).map(Ordered::new)).await.unwrap();
                }
            };
            std::thread::spawn(move || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(feed))
        })
        .collect();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(feeders.iter().all(|feeder| !feeder.is_finished()), "no timer of this thread had its turn while the lane was fed");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    until("the feeders have ended", || feeders.iter().all(|feeder| feeder.is_finished())).await;
    runtime.stop().await;
    assert!(runtime.monitor().balances());
}
