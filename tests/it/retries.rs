//! Retries, permanent failures, dead letters and replay.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use abe_events::broker::{DeadLetterFilter, FailureKind};
use abe_events::testing::TestBus;
use abe_events::{Classify, Error, Message, Outcome, Payload, Result, Topic, handlers, subscribe};
use tokio::time::Instant;

use super::support::{Notes, Ordered};

/// When each attempt began.
#[derive(Default)]
struct Times(std::sync::Mutex<Vec<Instant>>);

#[subscribe(retry(attempts = 4, min = "100ms", max = "1s"))]
async fn always_fails(_: &Ordered, times: &Times) -> Result<()> {
    times.0.lock().unwrap().push(Instant::now());
    Err(Error::msg("out of stock"))
}

#[abe_events::test]
async fn i16_attempts_are_bounded_and_delays_lie_within_min_and_max(bus: TestBus) {
    let bus = bus.handlers(handlers![always_fails]).shared_state(std::sync::Arc::new(Times::default())).start().await;
    for _ in 0..20 {
        bus.publish(Ordered::new(1)).await;
        bus.settled().await;
    }
    assert_eq!(bus.failed("always_fails"), 80);
    let letters = bus.dead_letters().await;
    assert_eq!(letters.len(), 20);
    for letter in letters {
        assert_eq!((letter.attempts, letter.failures.len(), letter.reason()), (4, 4, "out of stock"));
        assert!(letter.failures.iter().zip(1..).all(|(failure, attempt)| failure.attempt == attempt && failure.kind == FailureKind::Error));
    }
    assert_eq!(bus.monitor().subscription("always_fails").unwrap().retried, 60);
}

#[subscribe(retry(attempts = 5, min = "100ms", max = "400ms", jitter = false))]
async fn fails_on_schedule(_: &Ordered, times: &Times) -> Result<()> {
    times.0.lock().unwrap().push(Instant::now());
    Err(Error::msg("no"))
}

#[abe_events::test]
async fn i16_a_failing_event_never_comes_back_early(bus: TestBus) {
    let times = std::sync::Arc::new(Times::default());
    let bus = bus.handlers(handlers![fails_on_schedule]).shared_state(times.clone()).start().await;
    bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    let times = times.0.lock().unwrap().clone();
    let gaps: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(gaps.len(), 4);
    for (gap, wanted) in gaps.iter().zip([100, 200, 400, 400]) {
        assert!((wanted..wanted + 5).contains(gap), "{gaps:?}");
    }
    assert_eq!(bus.dead_letters().await.len(), 1);
}

#[derive(Debug)]
enum Billing {
    CardStolen,
    GatewayDown,
}
impl std::fmt::Display for Billing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
impl Classify for Billing {
    fn is_permanent(&self) -> bool {
        matches!(self, Self::CardStolen)
    }
}

#[subscribe(retry(attempts = 3, min = "1ms", max = "2ms"))]
async fn bill(order: &Ordered) -> Result<(), Billing> {
    if order.number == 1 { Err(Billing::CardStolen) } else { Err(Billing::GatewayDown) }
}

#[subscribe]
async fn refuse(order: &Ordered) -> Outcome {
    if order.number == 1 { Outcome::reject("not ours") } else { Outcome::ack() }
}

#[subscribe(retry(attempts = 3, min = "1ms", max = "2ms"))]
async fn decode_only(_: &Ordered) {}

#[abe_events::test]
async fn i17_permanent_failures_are_dead_on_the_first_attempt_with_their_bytes(bus: TestBus) {
    let bus = bus.handlers(handlers![bill, refuse, decode_only]).start().await;
    bus.publish(Ordered::new(1)).await;
    bus.publish(Ordered::new(2)).await;
    for bytes in ["{\"number\": \"x\"}", "", "{", "\"text\""] {
        bus.publish_message(Message::new(Topic::new("it.ordered").unwrap(), 1, Payload::from_bytes(bytes))).await;
    }
    bus.publish_message(Message::new(Topic::new("it.ordered").unwrap(), 9, Payload::from_bytes("{\"number\":1,\"user\":1}"))).await;
    bus.settled().await;
    let letters = bus.dead_letters().await;
    let of = |name: &str, kind: FailureKind| -> Vec<u32> {
        letters
            .iter()
            .filter(|letter| letter.subscription.as_str().ends_with(name) && letter.failures.last().unwrap().kind == kind)
            .map(|letter| letter.attempts)
            .collect()
    };
    assert_eq!(of("bill", FailureKind::Permanent), [1]);
    assert_eq!(of("bill", FailureKind::Error), [3]);
    assert_eq!(of("refuse", FailureKind::Rejected), [1]);
    for handler in ["bill", "refuse", "decode_only"] {
        assert_eq!(of(handler, FailureKind::Undecodable), [1; 4]);
        assert_eq!(of(handler, FailureKind::Version), [1]);
    }
    let undecodable = letters.iter().find(|letter| letter.message.payload().to_bytes().unwrap() == "\"text\"");
    assert!(undecodable.is_some(), "original bytes kept");
}

#[subscribe]
async fn waits_as_told(order: &Ordered, times: &Times) -> Outcome {
    let mut times = times.0.lock().unwrap();
    times.push(Instant::now());
    if times.len() == 1 { Outcome::retry_after(Duration::from_secs(7)).because(format!("order {}", order.number)) } else { Outcome::ack() }
}

#[abe_events::test]
async fn an_outcome_can_choose_its_own_delay(bus: TestBus) {
    let times = std::sync::Arc::new(Times::default());
    let bus = bus.handlers(handlers![waits_as_told]).shared_state(times.clone()).start().await;
    bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    let times = times.0.lock().unwrap().clone();
    assert!((7.0..7.1).contains(&(times[1] - times[0]).as_secs_f64()));
}

#[derive(Default)]
struct Repaired(AtomicBool);

#[subscribe(retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn broken_for_now(order: &Ordered, repaired: &Repaired, notes: &Notes) -> Result<()> {
    if !repaired.0.load(Ordering::SeqCst) {
        return Err(Error::msg("table is missing"));
    }
    notes.add(order.number);
    Ok(())
}

#[subscribe]
async fn not_involved(order: &Ordered, notes: &Notes) {
    notes.add(format!("other {}", order.number));
}

#[abe_events::test]
async fn i19_replay_keeps_the_id_and_reaches_only_the_subscription_that_failed(bus: TestBus) {
    let (notes, repaired) = (Notes::default(), std::sync::Arc::new(Repaired::default()));
    let bus = bus.handlers(handlers![broken_for_now, not_involved]).state(notes.clone()).shared_state(repaired.clone()).start().await;
    let ids = [bus.publish(Ordered::new(1)).await, bus.publish(Ordered::new(2)).await];
    bus.settled().await;
    assert_eq!(bus.dead_letters().await.len(), 2);
    let desk = bus.runtime().dead_letters();
    let shown = desk.show(&ids[0]).await.unwrap();
    assert!(shown.contains("table is missing") && shown.contains("\"number\":1"), "{shown}");
    repaired.0.store(true, Ordering::SeqCst);
    let one = DeadLetterFilter { id: Some(ids[1].clone()), ..DeadLetterFilter::default() };
    assert_eq!(desk.replay(&one).await.unwrap(), 1);
    bus.settled().await;
    assert_eq!(desk.count().await.unwrap(), 1);
    assert_eq!(desk.replay_at_rate(&DeadLetterFilter::default(), 10).await.unwrap(), 1);
    bus.settled().await;
    assert_eq!(desk.count().await.unwrap(), 0);
    let mut handled = notes.all();
    handled.sort();
    assert_eq!(handled, ["1", "2", "other 1", "other 2"]);
    assert!(bus.monitor().balances(), "{}", bus.monitor());
    assert_eq!(desk.replay(&DeadLetterFilter::default()).await.unwrap(), 0);
}

#[abe_events::test]
async fn i08_one_terminal_outcome_per_event_and_subscription(bus: TestBus) {
    let (notes, repaired) = (Notes::default(), std::sync::Arc::new(Repaired::default()));
    let bus = bus.handlers(handlers![broken_for_now, not_involved]).state(notes.clone()).shared_state(repaired).start().await;
    bus.publish_all((0..50).map(Ordered::new)).await;
    bus.settled().await;
    let letters = bus.dead_letters().await;
    assert_eq!((letters.len(), bus.handled("broken_for_now"), bus.handled("not_involved")), (50, 0, 50));
    let unique: std::collections::HashSet<_> =
        letters.iter().map(|letter| (letter.subscription.clone(), letter.message.id().clone())).collect();
    assert_eq!(unique.len(), 50);
}

#[subscribe(dead_letter = false, retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn may_be_lost(_: &Ordered) -> Result<()> {
    Err(Error::msg("nobody cares"))
}

#[abe_events::test]
async fn without_dead_letters_what_fails_for_good_is_thrown_away_and_counted(bus: TestBus) {
    let bus = bus.handlers(handlers![may_be_lost]).start().await;
    bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    let monitor = bus.monitor();
    let numbers = monitor.subscription("may_be_lost").unwrap();
    assert_eq!((numbers.dead, numbers.discarded, bus.dead_letters().await.len()), (1, 1, 0));
    assert!(monitor.balances());
}

#[subscribe(retry(attempts = 2, min = "1s", max = "10s"))]
async fn fails_while_full(order: &Ordered, notes: &Notes) -> Result<()> {
    notes.add(order.number);
    if notes.len() < 5 { Err(Error::msg("down")) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a08_a_dead_letter_that_cannot_be_stored_is_not_acked() {
    let broker = std::sync::Arc::new(abe_events::broker::memory::MemoryBroker::builder().dead_letters_max(0).build());
    let notes = Notes::default();
    let runtime =
        super::support::builder().broker(broker).handlers(handlers![fails_while_full]).state(notes.clone()).start().await.unwrap();
    runtime.publish(Ordered::new(1)).await.unwrap();
    super::support::until("the last attempt has failed for good", || notes.len() == 3).await;
    let numbers = runtime.monitor().total();
    assert_eq!((numbers.dead, numbers.pending, runtime.dead_letters().count().await.unwrap()), (0, 1, 0));
    // It waits for the longest delay and is tried again; by then it works.
    runtime.settled().await;
    assert_eq!((notes.len(), runtime.monitor().total().succeeded), (5, 1));
    assert!(runtime.monitor().balances());
    runtime.stop().await;
}
