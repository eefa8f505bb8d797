//! Timeouts of waiting handlers, of blocking ones, and of those that keep their thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use abe_events::broker::FailureKind;
use abe_events::testing::TestBus;
use abe_events::{handlers, subscribe};

use super::support::{Notes, Ordered, builder, until};

struct Flag(Arc<AtomicBool>);
impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[subscribe(timeout = "2s", retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn never_ends(_: &Ordered, dropped: &Arc<AtomicBool>) {
    let _flag = Flag(dropped.clone());
    std::future::pending::<()>().await;
}

#[abe_events::test]
async fn i36_an_attempt_is_dropped_at_its_timeout_and_counts_as_failed(bus: TestBus) {
    let dropped = Arc::new(AtomicBool::new(false));
    let bus = bus.handlers(handlers![never_ends]).state(dropped.clone()).start().await;
    let began = tokio::time::Instant::now();
    bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    assert!((4.0..4.1).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    let letters = bus.dead_letters().await;
    assert!(letters[0].failures.iter().all(|failure| failure.kind == FailureKind::Timeout));
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(bus.monitor().subscription("never_ends").unwrap().timed_out, 2);
}

#[subscribe(timeout = "none")]
async fn takes_a_day(order: &Ordered, notes: &Notes) {
    tokio::time::sleep(Duration::from_secs(20 * 3600)).await;
    notes.add(order.number);
}

#[abe_events::test]
async fn a_timeout_can_be_switched_off(bus: TestBus) {
    let notes = Notes::default();
    let bus = bus.handlers(handlers![takes_a_day]).state(notes.clone()).start().await;
    bus.publish(Ordered::new(1)).await;
    bus.settled().await;
    assert_eq!(notes.all(), ["1"]);
}

#[subscribe(timeout = "300ms")]
async fn keeps_its_thread(order: &Ordered, notes: &Notes) {
    keep_thread(Duration::from_millis(1200));
    notes.add(order.number);
}

/// What a timeout cannot interrupt: a wait for something else, on the thread itself.
fn keep_thread(time: Duration) {
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i36_a_handler_that_keeps_its_thread_is_found_by_the_watchdog() {
    let notes = Notes::default();
    let runtime = builder().handlers(handlers![keeps_its_thread]).state(notes.clone()).start().await.unwrap();
    runtime.publish(Ordered::new(1)).await.unwrap();
    until("the handler is done", || notes.len() == 1).await;
    assert_eq!(runtime.monitor().subscription("keeps_its_thread").unwrap().stalled, 1);
    runtime.stop().await;
}

#[subscribe(timeout = "2s")]
async fn keeps_its_thread_a_little(order: &Ordered, notes: &Notes) {
    keep_thread(Duration::from_millis(100));
    notes.add(order.number);
}

/// Handlers that follow one another without waiting are one stretch of user code, and yet none of them is taken for a stall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i36_many_handlers_in_a_row_are_not_taken_for_one_that_keeps_its_thread() {
    let notes = Notes::default();
    let runtime = builder().handlers(handlers![keeps_its_thread_a_little]).state(notes.clone()).start().await.unwrap();
    runtime.publish_all((0..30).map(Ordered::new)).await.unwrap();
    until("the handlers are done", || notes.len() == 30).await;
    assert_eq!(runtime.monitor().subscription("keeps_its_thread_a_little").unwrap().stalled, 0);
}

#[subscribe(blocking, timeout = "200ms", retry(attempts = 2, min = "1ms", max = "1ms"))]
fn blocks(order: &Ordered, gate: &Gate, notes: &Notes) {
    gate.wait();
    notes.add(order.number);
}

/// Held until the test opens it.
#[derive(Default)]
struct Gate(std::sync::Mutex<bool>, std::sync::Condvar);
impl Gate {
    fn wait(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_while(open, |open| !*open).unwrap());
    }
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

#[tokio::test]
async fn i36_a_blocking_handler_is_given_up_at_its_timeout_and_its_late_result_changes_nothing() {
    let (notes, gate) = (Notes::default(), Arc::new(Gate::default()));
    let runtime = builder().handlers(handlers![blocks]).state(notes.clone()).shared_state(gate.clone()).start().await.unwrap();
    runtime.publish(Ordered::new(1)).await.unwrap();
    until("both attempts are given up", || runtime.monitor().subscription("blocks").unwrap().dead == 1).await;
    gate.open();
    until("both late runs have ended", || notes.len() == 2).await;
    let monitor = runtime.monitor();
    assert_eq!((monitor.total().succeeded, monitor.total().timed_out), (0, 2));
    assert!(monitor.balances());
    runtime.stop().await;
}
