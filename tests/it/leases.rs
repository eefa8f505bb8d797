//! Leases, on a broker told to keep them: one runner while renewed, fencing when not.

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{Broker, DeadLetter, DeadLetterFilter, FailureKind, Messages, Outgoing, SubscriptionSpec};
use abe_events::{Context, Name, TopicPattern, handlers, subscribe};

use super::support::{Gauge, Notes, Ordered, builder, until};

const LEASE: Duration = Duration::from_millis(600);

#[subscribe(name = "it.long", timeout = "none")]
async fn takes_ten_leases(order: &Ordered, gauge: &Gauge, notes: &Notes) {
    gauge.enter();
    tokio::time::sleep(LEASE * 10).await;
    gauge.leave();
    notes.add(order.number);
}

#[tokio::test(start_paused = true)]
async fn i10_i12_a_handler_of_ten_leases_is_renewed_and_runs_once() {
    let (broker, notes, gauge) = (Arc::new(MemoryBroker::new()), Notes::default(), Arc::new(Gauge::default()));
    let start = async || {
        let builder = builder().broker(broker.clone()).lease(LEASE).handlers(handlers![takes_ten_leases]);
        builder.state(notes.clone()).shared_state(gauge.clone()).start().await.unwrap()
    };
    // Two instances compete: whichever does not run it would get it when the lease ends.
    let (one, two) = (start().await, start().await);
    one.publish(Ordered::new(1)).await.unwrap();
    tokio::time::sleep(LEASE * 30).await;
    assert_eq!((notes.all(), gauge.most()), (vec!["1".to_owned()], 1));
    let (one_numbers, two_numbers) = (one.monitor().total(), two.monitor().total());
    assert_eq!((one_numbers.succeeded + two_numbers.succeeded, one_numbers.leases_lost + two_numbers.leases_lost), (1, 0));
    one.stop().await;
    two.stop().await;
}

#[subscribe(name = "it.long", timeout = "5s", retry(attempts = 1))]
async fn never_ends(_: &Ordered, gauge: &Gauge) {
    gauge.enter();
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn i12_renewal_stops_at_the_timeout_and_the_run_counts_as_failed() {
    let gauge = Arc::new(Gauge::default());
    let runtime = builder().lease(LEASE).handlers(handlers![never_ends]).shared_state(gauge.clone()).start().await.unwrap();
    runtime.publish(Ordered::new(1)).await.unwrap();
    until("it is given up", || runtime.monitor().total().dead == 1).await;
    assert_eq!((runtime.monitor().total().timed_out, gauge.most()), (1, 1));
    runtime.stop().await;
}

#[subscribe(name = "it.long")]
async fn keeps_its_thread(order: &Ordered, ctx: &Context, notes: &Notes) {
    notes.add(format!("{} attempt {}", order.number, ctx.attempt()));
    if ctx.attempt() == 1 {
        // Nothing on this thread can renew the lease: until the other one has it, however long that takes.
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while notes.len() < 2 && std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
    } else {
        // Still running, under a lease that stands, when the late verdict of the first comes.
        tokio::time::sleep(LEASE * 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_after_its_lease_is_lost_a_late_verdict_changes_nothing_and_is_reported() {
    let (broker, notes) = (Arc::new(MemoryBroker::new()), Notes::default());
    let start = async |broker: Arc<MemoryBroker>, notes: Notes| {
        builder().broker(broker).lease(LEASE).handlers(handlers![keeps_its_thread]).state(notes).start().await.unwrap()
    };
    let one = start(broker.clone(), notes.clone()).await;
    one.publish(Ordered::new(1)).await.unwrap();
    until("the first instance has it", || notes.len() == 1).await;
    // On threads of its own, as another process would be: what shares a thread with a handler that keeps it waits with it.
    let other = std::thread::spawn({
        let (broker, notes) = (broker.clone(), notes.clone());
        move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio.block_on(async {
                let two = start(broker, notes.clone()).await;
                until("the other instance has it as well", || notes.len() == 2).await;
                two.stop().await;
                two.monitor().total()
            })
        }
    });
    let settled = || {
        let numbers = one.monitor().total();
        numbers.leases_lost + numbers.succeeded
    };
    until("the late verdict came", || settled() == 1).await;
    assert_eq!(one.monitor().total().leases_lost, 1, "and was refused");
    let (one_numbers, two_numbers) = (one.monitor().total(), other.join().unwrap());
    assert_eq!(notes.all(), ["1 attempt 1", "1 attempt 2"]);
    assert_eq!((one_numbers.succeeded, two_numbers.succeeded), (0, 1), "only the one that stands is counted");
    one.stop().await;
}

#[subscribe(name = "it.suspects", concurrency = 4, retry(attempts = 2, min = "1ms", max = "1ms"))]
async fn looks_around(order: &Ordered, gauge: &Gauge, notes: &Notes) {
    gauge.enter();
    tokio::time::sleep(Duration::from_millis(2)).await;
    gauge.leave();
    notes.add(order.number);
}

/// Publishes, and lets all of it be handed out so often to a consumer that ends without a word, as a process that dies does.
async fn dies_with_all(broker: &Arc<MemoryBroker>, messages: u32, times: u32) {
    let publisher = builder().broker(broker.clone()).group("it").handlers(handlers![looks_around]);
    let publisher = publisher.state(Notes::default()).shared_state(Arc::new(Gauge::default())).start().await.unwrap();
    publisher.stop().await;
    let mut spec =
        SubscriptionSpec::new(Name::new("it").unwrap(), Name::new("it.suspects").unwrap(), vec![TopicPattern::new("it.ordered").unwrap()]);
    (spec.lanes, spec.unsettled_max, spec.buffer, spec.lease) = (4, messages, 64, Some(LEASE));
    let consumer = broker.subscribe(&spec).await.unwrap();
    for number in 0..messages {
        let payload = format!("{{\"number\":{number},\"user\":0}}");
        let message = abe_events::Message::json("it.ordered", 1, payload).unwrap();
        let outgoing = Outgoing { messages: Messages::One(message), delay: Duration::ZERO, origin: None };
        broker.publish(outgoing).await.unwrap();
    }
    drop(consumer);
    for _ in 0..times {
        let consumer = broker.subscribe(&spec).await.unwrap();
        let mut held = 0;
        while held < messages as usize {
            held += consumer.receive(0, messages as usize, Vec::new()).await.unwrap().len();
        }
        consumer.close().await.unwrap();
    }
}

async fn after_deaths(messages: u32, times: u32) -> (Vec<String>, u32, Vec<DeadLetter>) {
    let broker = Arc::new(MemoryBroker::new());
    dies_with_all(&broker, messages, times).await;
    let (notes, gauge) = (Notes::default(), Arc::new(Gauge::default()));
    let builder = builder().broker(broker).group("it").lease(LEASE).handlers(handlers![looks_around]);
    let runtime = builder.state(notes.clone()).shared_state(gauge.clone()).start().await.unwrap();
    until("everything ended", || runtime.monitor().total().pending == 0).await;
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await.unwrap();
    runtime.stop().await;
    (notes.all(), gauge.most(), letters)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i15_who_was_beside_too_many_silent_ends_runs_alone_and_ends_well() {
    let (handled, most, letters) = after_deaths(24, 2).await;
    assert_eq!((handled.len(), most, letters.len()), (24, 1, 0), "all of them are suspects, and none runs beside another");
    let (handled, most, letters) = after_deaths(24, 1).await;
    assert_eq!((handled.len(), letters.len()), (24, 0));
    assert!(most > 1, "two silent ends are no suspicion");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i15_who_never_ends_with_a_word_is_given_up_without_another_attempt() {
    let (handled, _, letters) = after_deaths(3, 5).await;
    assert_eq!(handled, Vec::<String>::new());
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.failures.last().is_some_and(|failure| failure.kind == FailureKind::Crash)));
}
