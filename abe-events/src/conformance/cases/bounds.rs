//! Everything is bounded: what is handed out, what waits, what is held in memory; and nothing is dropped in silence.

use std::collections::BTreeSet;

use crate::broker::{Consumer, Delivery};
use crate::policy::WhenFull;
use crate::{ErrorKind, Message};
use tokio::time::timeout;

use crate::conformance::bench::{Bench, Check, Fault, Got, ensure, message, numbered, retry_after, same_ids, single, within};

/// A13: no more is handed out and unsettled than allowed; each settlement makes room for one more.
pub(crate) async fn unsettled_bound(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut spec = bench.spec("reader", &topic)?;
    (spec.unsettled_max, spec.lanes) = (5, 2);
    spec.lease = Some(10 * (bench.backend.lease() + bench.patience()));
    let consumer = bench.consumer(&spec).await?;
    bench.publish(&numbered(&topic, 20)).await?;
    let mut held: Vec<Delivery> = Vec::new();
    // Both lanes ask for more than there may be.
    for lane in [0, 1].into_iter().cycle() {
        held.append(&mut bench.take_of(&*consumer, lane, 8).await?);
        ensure!(held.len() <= 5, "{} deliveries are unsettled, 5 are allowed", held.len());
        if held.len() == 5 {
            break;
        }
    }
    let more = take_if_any(bench, &*consumer).await?;
    ensure!(more.is_none(), "5 deliveries may be unsettled, and more were handed out: {more:?}");
    for lane in (0..15).map(|number| number % 2) {
        let one = held.swap_remove(0);
        bench.ack(&*consumer, vec![one]).await?;
        let more = bench.take_of(&*consumer, lane, 8).await?;
        ensure!(more.len() == 1, "one settlement made room for {}", more.len());
        held.extend(more);
    }
    Ok(())
}

/// What either lane gets, or nothing once both are silent.
async fn take_if_any(bench: &Bench, consumer: &dyn Consumer) -> Check<Option<Vec<Delivery>>> {
    for lane in 0..2 {
        if let Ok(got) = timeout(bench.silence(), consumer.receive(lane, 8, Vec::new())).await {
            return Ok(Some(got?));
        }
    }
    Ok(None)
}

/// Publishes one by one until the broker waits or refuses; what was accepted, and the message that was not.
async fn fill(bench: &Bench, sent: &[Message]) -> Check<usize> {
    for (at, message) in sent.iter().enumerate() {
        match timeout(bench.silence(), bench.broker.publish(single(message.clone()))).await {
            Err(_waits) => return Ok(at),
            Ok(Err(failure)) if failure.error.kind() == ErrorKind::Full => return Ok(at),
            Ok(Err(failure)) => return Err(failure.into()),
            Ok(Ok(_)) => {}
        }
    }
    Ok(sent.len())
}

/// A17: nobody reads: publishing stops within the stated bound, and goes on, without loss, as soon as there is room.
pub(crate) async fn backpressure(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut spec = bench.spec("reader", &topic)?;
    spec.buffer = 16;
    let consumer = bench.consumer(&spec).await?;
    let sent = numbered(&topic, 200);
    let accepted = fill(bench, &sent).await?;
    ensure!(accepted <= 16, "{accepted} messages were accepted, 16 may wait");
    ensure!(accepted > 0, "not one message was accepted");
    let pending = consumer.depth().pending();
    ensure!(pending <= 16, "{pending} messages are pending, 16 are allowed");
    // The publish that was given up on has an unknown outcome: again with the same id.
    let (published, got) = tokio::join!(
        async {
            for message in &sent[accepted..] {
                within("publish into a queue that is read", bench.patience(), bench.broker.publish(single(message.clone()))).await??;
            }
            Ok::<(), Fault>(())
        },
        read_distinct(bench, &*consumer, sent.len())
    );
    published?;
    same_ids(&sent, &got?)
}

/// Acks until `n` different messages were seen, whatever comes twice.
async fn read_distinct(bench: &Bench, consumer: &dyn Consumer, n: usize) -> Check<Vec<Got>> {
    let (mut seen, mut kept) = (BTreeSet::new(), Vec::new());
    while kept.len() < n {
        let deliveries = bench.take(consumer, 8).await?;
        kept.extend(deliveries.iter().filter(|delivery| seen.insert(delivery.message.id().clone())).map(Got::of));
        bench.ack(consumer, deliveries).await?;
    }
    Ok(kept)
}

/// A20: a thousand subscriptions come and go: no task stays behind.
pub(crate) async fn leak(bench: &Bench) -> Check {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let cycle = async |number: usize| {
        let topic = bench.topic(&format!("orders-{number}"))?;
        let mut spec = bench.spec(&format!("reader-{number}"), &topic)?;
        // A subscription outlives its consumers, and with it what it needs for its bound.
        spec.buffer = 8;
        let consumer = bench.consumer(&spec).await?;
        bench.publish(&numbered(&topic, 1)).await?;
        let delivery = bench.take_one(&*consumer).await?;
        bench.ack(&*consumer, vec![delivery]).await?;
        bench.close(&*consumer).await
    };
    // The broker may start what it needs once.
    cycle(0).await?;
    let before = alive();
    for number in 1..=1_000 {
        cycle(number).await?;
    }
    let settled = async {
        while alive() > before {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let ended = within("the end of the tasks of closed consumers", bench.patience(), settled).await;
    ended.map_err(|fault| Fault(format!("{before} tasks before, {} after: {}", alive(), fault.0)))
}

/// A29: of a call that fails half-way either nothing is stored, where publishing is atomic, or exactly as many as it says.
pub(crate) async fn publish_many(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut small = bench.spec("small", &topic)?;
    (small.buffer, small.when_full) = (5, WhenFull::Fail);
    let small = bench.consumer(&small).await?;
    let large = bench.consumer(&bench.spec("large", &topic)?).await?;
    let sent = numbered(&topic, 10);
    let Err(failure) = bench.try_publish(sent.clone()).await? else {
        return Err(Fault::from("10 messages were accepted where 5 may wait"));
    };
    ensure!(failure.error.kind() == ErrorKind::Full, "a full queue fails with {:?}", failure.error);
    ensure!(failure.stored <= 5, "{} are said to be stored where 5 may wait", failure.stored);
    if bench.broker.capabilities().atomic_publish {
        ensure!(failure.stored == 0, "publishing is declared atomic, yet {} of 10 are stored", failure.stored);
    }
    for consumer in [small, large] {
        if failure.stored > 0 {
            let got = bench.read(&*consumer, failure.stored, bench.patience()).await?;
            same_ids(&sent[..failure.stored], &got)?;
        }
        bench.nothing_comes(&*consumer).await?;
    }
    Ok(())
}

/// S7: where the policy is to fail, a full queue fails the publish, and nobody gets the message.
pub(crate) async fn full_fails(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut small = bench.spec("small", &topic)?;
    (small.buffer, small.when_full) = (4, WhenFull::Fail);
    let small = bench.consumer(&small).await?;
    let large = bench.consumer(&bench.spec("large", &topic)?).await?;
    let sent = numbered(&topic, 5);
    bench.publish_singly(&sent[..4]).await?;
    let refused = within("publish", bench.patience(), bench.broker.publish(single(sent[4].clone()))).await?;
    let Err(failure) = refused else { return Err(Fault::from("a fifth message was accepted where 4 may wait")) };
    ensure!(failure.error.kind() == ErrorKind::Full && failure.stored == 0, "{failure}");
    bench.read_exactly(&*large, &sent[..4]).await?;
    bench.read_exactly(&*small, &sent[..4]).await?;
    bench.publish(&sent[4..]).await?;
    bench.read_exactly(&*small, &sent[4..]).await.map(drop)
}

/// S8: where the policy is to shed, a full queue goes without, counts it, and nobody else is concerned.
pub(crate) async fn full_sheds(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let mut small = bench.spec("small", &topic)?;
    (small.buffer, small.when_full) = (4, WhenFull::Shed);
    let small = bench.consumer(&small).await?;
    let large = bench.consumer(&bench.spec("large", &topic)?).await?;
    let sent = numbered(&topic, 10);
    bench.publish_singly(&sent).await?;
    let shed = small.depth().shed;
    ensure!(shed == 6, "6 messages were shed, {shed} are counted");
    bench.read_exactly(&*large, &sent).await?;
    bench.read_exactly(&*small, &sent[..4]).await.map(drop)
}

/// S9: large messages fill a queue before its number does.
pub(crate) async fn full_by_bytes(bench: &Bench) -> Check {
    let topic = bench.topic("blobs")?;
    let mut spec = bench.spec("reader", &topic)?;
    (spec.buffer_bytes, spec.when_full) = (256 * 1024, WhenFull::Fail);
    let consumer = bench.consumer(&spec).await?;
    let sent: Vec<Message> = (0..16).map(|_| message(&topic, vec![b'x'; 64 * 1024])).collect();
    let accepted = fill(bench, &sent).await?;
    ensure!((1..=4).contains(&accepted), "{accepted} messages of 64 KiB were accepted where 256 KiB may wait");
    bench.read_exactly(&*consumer, &sent[..accepted]).await.map(drop)
}

/// S10: what waits, is handed out, or is delayed adds up, and ends at nothing.
pub(crate) async fn depth_adds_up(bench: &Bench) -> Check {
    let topic = bench.topic("orders")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    bench.publish(&numbered(&topic, 10)).await?;
    let mut held = bench.hold(&*consumer, 4).await?;
    bench.settle(&*consumer, held.remove(0), retry_after(1, bench.long())).await?;
    let depth = consumer.depth();
    ensure!((depth.unsettled, depth.delayed) == (3, 1), "3 are unsettled and 1 is delayed: {depth:?}");
    ensure!(depth.ready == 6 && depth.bytes > 0, "6 are ready: {depth:?}");
    bench.ack(&*consumer, held).await?;
    bench.read(&*consumer, 7, bench.patience() + bench.long()).await?;
    let depth = consumer.depth();
    ensure!(depth.pending() == 0 && depth.bytes == 0, "all has ended: {depth:?}");
    Ok(())
}
