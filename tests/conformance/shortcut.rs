//! A broker with shorter ways, reached through nothing else: the suite proves that they keep what the general way promises.
//!
//! What is published one by one goes by the topic's route, what a lane receives comes as runs, and acks are numbers. What the
//! shorter ways leave to the general one goes there.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abe_events::broker::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetters, Delivery, Depth, Local, Messages, Outgoing, PublishFailure, Published,
    Run, Settled, Settlement, SubscriptionSpec, Token, Verdict,
};
use abe_events::{Id, Result};

/// A broker by its shorter ways.
#[derive(Debug)]
pub(crate) struct Shortcut(pub(crate) Arc<dyn Broker>);

#[derive(Debug)]
struct ShortConsumer {
    inner: Arc<dyn Consumer>,
    /// Messages of runs that are not settled, with their lane.
    lent: Mutex<HashMap<Id, u32>>,
    /// Whether a lane waits; a second wait of the same lane goes the general way.
    waits: Vec<AtomicBool>,
}

impl Broker for Shortcut {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(async move {
            let inner = self.0.subscribe(spec).await?;
            let waits = (0..spec.lanes).map(|_| AtomicBool::new(false)).collect();
            Ok(Arc::new(ShortConsumer { inner, lent: Mutex::default(), waits }) as Arc<dyn Consumer>)
        })
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        let Outgoing { messages: Messages::One(message), delay, origin } = outgoing else { return self.0.publish(outgoing) };
        if delay.is_zero()
            && let Some(route) = self.0.route(message.topic()).filter(|route| route.is_open())
        {
            return Answer::later(async move { route.publish(message, origin).await });
        }
        self.0.publish(Outgoing { messages: Messages::One(message), delay, origin })
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.0.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.0.close()
    }
}

impl ShortConsumer {
    fn lent(&self) -> MutexGuard<'_, HashMap<Id, u32>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane's own way, if it has one and does not wait there already.
    fn local(&self, lane: u32) -> Option<Waiting<'_>> {
        let (local, waits) = (self.inner.local()?, self.waits.get(lane as usize)?);
        (!waits.swap(true, Ordering::SeqCst)).then_some(Waiting { local, lane, waits })
    }
}

/// A lane that waits for a run, until it is dropped.
struct Waiting<'a> {
    local: &'a dyn Local,
    lane: u32,
    waits: &'a AtomicBool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.local.stop_taking(self.lane);
        self.waits.store(false, Ordering::SeqCst);
    }
}

impl Consumer for ShortConsumer {
    fn id(&self) -> ConsumerId {
        self.inner.id()
    }

    fn receive(&self, lane: u32, max: usize, mut into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        let Some(waiting) = self.local(lane).filter(|_| max > 0) else { return self.inner.receive(lane, max, into) };
        Answer::later(async move {
            let mut run = Run::new();
            poll_fn(|cx| waiting.local.poll_take(lane, max, &mut run, &mut into, cx)).await?;
            while let Some(message) = run.pop() {
                self.lent().insert(message.id().clone(), lane);
                into.push(waiting.local.delivery(lane, message));
            }
            Ok(into)
        })
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        Answer::later(async move {
            let mut all = Settled::default();
            for settlement in settlements {
                let lane = self.lent().remove(settlement.delivery.message.id());
                match (lane, self.inner.local(), &settlement.verdict) {
                    (Some(lane), Some(local), Verdict::Ack) => {
                        if let Err(error) = local.ack(lane, std::slice::from_ref(&settlement.delivery.message)) {
                            all.failed.push((settlement, error));
                        }
                    }
                    _ => {
                        let settled = self.inner.settle(vec![settlement]).await;
                        all.lost.extend(settled.lost);
                        all.failed.extend(settled.failed);
                    }
                }
            }
            all
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
