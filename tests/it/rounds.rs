//! A lane's rounds to its broker: settling what is done and asking for more are one.

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetters, Delivery, Depth, Outgoing, PublishFailure, Published, Settled,
    Settlement, SubscriptionSpec, Token, Verdict,
};
use abe_events::{Result, handlers, subscribe};
use tokio::sync::watch;

use super::support::{Notes, Ordered, builder};

/// Carries out acknowledgements only once the lane has asked for more: as if both had to be in one round.
#[derive(Debug, Default)]
struct OneRound {
    inner: MemoryBroker,
}

#[derive(Debug)]
struct OneRoundConsumer {
    inner: Arc<dyn Consumer>,
    /// How often it was asked for messages.
    asked: watch::Sender<u32>,
}

impl Broker for OneRound {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(async move {
            let inner = self.inner.subscribe(spec).await?;
            Ok(Arc::new(OneRoundConsumer { inner, asked: watch::Sender::new(0) }) as Arc<dyn Consumer>)
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

impl Consumer for OneRoundConsumer {
    fn id(&self) -> ConsumerId {
        self.inner.id()
    }

    fn receive(&self, lane: u32, max: usize, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        Answer::later(async move {
            self.asked.send_modify(|asked| *asked += 1);
            self.inner.receive(lane, max, into).await
        })
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        Answer::later(async move {
            if settlements.iter().all(|settlement| matches!(settlement.verdict, Verdict::Ack)) {
                let (before, mut asked) = (*self.asked.borrow(), self.asked.subscribe());
                let _ = asked.wait_for(|asked| *asked > before).await;
            }
            self.inner.settle(settlements).await
        })
    }

    fn renew<'a>(&'a self, tokens: &'a [Token]) -> Answer<'a, Result<Vec<Token>>> {
        self.inner.renew(tokens)
    }

    fn depth(&self) -> Depth {
        self.inner.depth()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

#[subscribe]
async fn keep(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

#[subscribe(concurrency = 3)]
async fn keep_on_three(order: &Ordered, notes: &Notes) {
    notes.add(order.number);
}

async fn runs(handler: &'static abe_events::handler::HandlerDescriptor) -> Vec<u32> {
    let notes = Notes::default();
    let broker: Arc<dyn Broker> = Arc::new(OneRound::default());
    let runtime = builder().broker(broker).handlers([handler]).state(notes.clone()).start().await.unwrap();
    let all = async {
        runtime.publish_all((0..500).map(Ordered::new)).await.unwrap();
        runtime.settled().await;
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    runtime.stop().await;
    notes.all().iter().filter_map(|note| note.parse().ok()).collect()
}

#[tokio::test]
async fn a_lane_asks_for_more_while_what_is_done_is_settled() {
    assert!(runs(handlers![keep][0]).await.into_iter().eq(0..500), "in the order of publishing");
    let mut numbers = runs(handlers![keep_on_three][0]).await;
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..500), "each once");
}
