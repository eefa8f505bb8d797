//! A lease that is lost before the commit: nothing of the batch is committed, and nothing of it is acked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetters, Delivery, Depth, Outgoing, PublishFailure, Published, Settled,
    Settlement, SubscriptionSpec, Token,
};
use abe_events::{Batch, Result, Tx, handlers, subscribe};

use super::common::{effects, write};
use super::place::{Db, Place};
use crate::support::{Count, Paid, builder, until};

const LEASE: Duration = Duration::from_secs(3);

/// Says once, when leases are renewed, that the first of several is lost.
#[derive(Debug, Default)]
struct Forgetful {
    inner: MemoryBroker,
}

#[derive(Debug)]
struct ForgetfulConsumer {
    inner: Arc<dyn Consumer>,
    said: AtomicBool,
}

impl Broker for Forgetful {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(async move {
            let inner = self.inner.subscribe(spec).await?;
            Ok(Arc::new(ForgetfulConsumer { inner, said: AtomicBool::new(false) }) as Arc<dyn Consumer>)
        })
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        self.inner.publish(outgoing)
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

impl Consumer for ForgetfulConsumer {
    fn id(&self) -> ConsumerId {
        self.inner.id()
    }

    fn receive(&self, lane: u32, max: usize, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        self.inner.receive(lane, max, into)
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        self.inner.settle(settlements)
    }

    fn renew<'a>(&'a self, tokens: &'a [Token]) -> Answer<'a, Result<Vec<Token>>> {
        if tokens.len() > 1 && !self.said.swap(true, Ordering::SeqCst) {
            return Answer::ready(Ok(tokens[..1].to_vec()));
        }
        self.inner.renew(tokens)
    }

    fn depth(&self) -> Depth {
        self.inner.depth()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

#[subscribe(name = "stops_in_a_batch", batch = 2, max_wait = "10s")]
async fn stops_in_a_batch(paid: Batch<Paid>, mut tx: Tx<Db>, count: &Count) -> Result<()> {
    for paid in paid.iter() {
        write(&mut tx, paid.number, "in a batch").await?;
    }
    if count.next() == 1 {
        // As a process that is stopped: so long that the broker is asked before the commit.
        #[expect(clippy::disallowed_methods, reason = "that is what is tried")]
        std::thread::sleep(LEASE * 5 / 6);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_rolled_back_for_one_is_acked_for_none() {
    let Some(place) = Place::new().await else { return };
    let (broker, count) = (Arc::new(Forgetful::default()), Arc::new(Count::default()));
    let builder = builder().broker(broker).store(&place.url).lease(LEASE);
    let runtime = builder.handlers(handlers![stops_in_a_batch]).shared_state(count.clone()).start().await.unwrap();
    runtime.publish_all([Paid::new(1), Paid::new(2)]).await.unwrap();
    until("nothing is pending", async || runtime.monitor().total().pending == 0).await;
    runtime.stop().await;
    let mut effects = effects(&place).await;
    effects.sort_unstable();
    assert_eq!(effects, [1, 2], "the first call, of {}, was rolled back", count.get());
}
