//! A broker of one's own, and one call that holds it to the contract of the seam.
//!
//! The broker here reaches the memory broker over a link that takes a moment. Its first version is sound. The second takes
//! deliveries before it knows that somebody still waits for them, which no test of one's own would have asked for.
//!
//! ```sh
//! cargo run --example own_backend
//! ```
//!
//! It prints:
//!
//! ```text
//! conformance of linked, short form, without what passed
//!   14   new_subscriber_receives_old_messages     n/a (start: earliest)
//!   A8   dead_letter_refused                      n/a (the backend has no broker that cannot store dead letters)
//!   S11  wildcards_match                          n/a (wildcards)
//!   S14  survives_a_restart                       n/a (durability: restart)
//!   … cases: … passed, 4 n/a, 0 failed
//! conformance of linked, careless, short form, without what passed
//!   13   cancelled_receive                        FAIL … of 24 messages came, then none for …
//!   1 cases: 0 passed, 0 n/a, 1 failed
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetters, Delivery, Depth, Outgoing, PublishFailure, Published, Settled,
    Settlement, SubscriptionSpec, Token,
};
use abe_events::conformance::{self, Backend, Clock, Suite};
use abe_events::{BoxError, Error, ErrorKind, Result, TopicPattern};
use tokio::time::sleep;

/// How long the link takes, each time.
const LINK: Duration = Duration::from_millis(1);

/// The memory broker at the other end of a link.
#[derive(Debug)]
struct Linked {
    inner: MemoryBroker,
    declared: Capabilities,
    careless: bool,
}

#[derive(Debug)]
struct LinkedConsumer {
    inner: Arc<dyn Consumer>,
    careless: bool,
}

impl Linked {
    fn new(careless: bool) -> Self {
        let inner = MemoryBroker::new();
        // Only what is kept is declared: this broker knows topics by their names alone.
        let declared = Capabilities { name: "linked", wildcards: false, ..inner.capabilities().clone() };
        Self { inner, declared, careless }
    }
}

impl Broker for Linked {
    fn capabilities(&self) -> &Capabilities {
        &self.declared
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(async move {
            sleep(LINK).await;
            if spec.topics.iter().any(TopicPattern::has_wildcard) {
                return Err(Error::new(ErrorKind::Unsupported, "the linked broker knows topics by their names alone"));
            }
            let inner = self.inner.subscribe(spec).await?;
            Ok(Arc::new(LinkedConsumer { inner, careless: self.careless }) as Arc<dyn Consumer>)
        })
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        Answer::later(async move {
            sleep(LINK).await;
            self.inner.publish(outgoing).await
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

impl Consumer for LinkedConsumer {
    fn id(&self) -> ConsumerId {
        self.inner.id()
    }

    fn receive(&self, lane: u32, max: usize, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        Answer::later(async move {
            if self.careless {
                let deliveries = self.inner.receive(lane, max, into).await;
                // Whoever goes away now takes them along: they are nobody's until their leases end.
                sleep(LINK).await;
                return deliveries;
            }
            sleep(LINK).await;
            self.inner.receive(lane, max, into).await
        })
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        Answer::later(async move {
            sleep(LINK).await;
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

/// How the suite opens such a broker.
struct Link {
    careless: bool,
}

impl Backend for Link {
    fn name(&self) -> &str {
        if self.careless { "linked, careless" } else { "linked" }
    }

    /// A broker that outlives its process would open what `storage` names: a file, a database, a prefix.
    fn open<'a>(&'a self, _storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        Answer::ready(Ok(Arc::new(Linked::new(self.careless))))
    }

    /// Waits for nothing but tokio, so minutes of waiting cost nothing. A server needs `Clock::Real`, which is the default.
    fn clock(&self) -> Clock {
        Clock::Paused
    }

    fn lateness(&self) -> Duration {
        10 * LINK
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let report = conformance::run(Link { careless: false }).await;
    // `{report}` would print every case.
    println!("{report:#}");
    report.assert();

    let report = Suite::new(Link { careless: true }).only("cancelled_receive").run().await;
    println!("{report:#}");
    assert!(!report.passed(), "the suite would have noticed");
}
