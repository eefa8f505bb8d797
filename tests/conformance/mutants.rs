//! Proof of the suite: brokers with one deliberate fault each, and the cases that must notice.
//!
//! A [`Mutant`] wraps a sound broker and sins in one place. A case that lets its sin pass is worth nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use abe_events::broker::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetter, DeadLetterFilter, DeadLetters, Delivery, Depth, Durability, Failure,
    FailureKind, Messages, Outgoing, PublishFailure, Published, Settled, Settlement, SubscriptionSpec, Token, Verdict,
};
use abe_events::conformance::{Backend, Clock, Outcome, Size, Suite};
use abe_events::policy::WhenFull;
use abe_events::{BoxError, Headers, Id, Message, Name, Payload, Result};

use crate::memory::PAUSED;
use crate::run;

/// What a mutant does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sin {
    /// None: what is noticed in the others is not the wrapper.
    None,
    DropsEvery50th,
    HandsOutTwice,
    SwapsNeighboursOfAKey,
    IgnoresOrder,
    IgnoresToken,
    HidesLostLeases,
    NeverCountsAttempts,
    CountsReleases,
    RetriesEarly,
    RetryIsAck,
    AcksOnClose,
    LosesHeaders,
    CutsPayloads,
    CutsKeysAtNul,
    RewritesJson,
    IgnoresUnsettledMax,
    IgnoresBuffer,
    IgnoresBufferBytes,
    ForgetsDeadLetters,
    AcksRefusedDeadLetters,
    AcksWholeBatches,
    LeasesNeverEnd,
    NeverRenews,
    DropsCancelledReceives,
    PublishesWithoutDelay,
    MixesGroups,
    ShedsInsteadOfFailing,
    ShedsInSilence,
    StoresPartsOfACall,
    AcceptsAfterClose,
    LeaksTasks,
    ReplaysToNobody,
    ReplaysToEverybody,
    PurgesTooMuch,
    ForgetsEarlierFailures,
    SharesOneLock,
    ForgetsOnRestart,
    TakesWhatItLacks,
}

/// What a mutant remembers.
#[derive(Debug, Default)]
struct Memory {
    /// Handed out and unsettled, by id; the latest wins.
    given: HashMap<Id, (Token, Message)>,
    /// To be handed out a second time.
    echo: Vec<Delivery>,
}

/// A sound broker with a sin.
#[derive(Debug)]
struct Mutant {
    sin: Sin,
    inner: Arc<dyn Broker>,
    declared: Capabilities,
    count: AtomicU64,
    closed: AtomicBool,
    lock: Arc<tokio::sync::Semaphore>,
}

#[derive(Debug)]
struct MutantConsumer {
    sin: Sin,
    inner: Arc<dyn Consumer>,
    memory: Mutex<Memory>,
    lock: Arc<tokio::sync::Semaphore>,
}

impl Broker for Mutant {
    fn capabilities(&self) -> &Capabilities {
        &self.declared
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(async move {
            let mut spec = spec.clone();
            match self.sin {
                Sin::IgnoresOrder => spec.ordered = false,
                Sin::IgnoresUnsettledMax => spec.unsettled_max = 4_096,
                Sin::IgnoresBuffer => spec.buffer = 4_096,
                Sin::IgnoresBufferBytes => spec.buffer_bytes = usize::MAX / 2,
                Sin::LeasesNeverEnd => spec.lease = Some(Duration::from_secs(365 * 24 * 60 * 60)),
                Sin::MixesGroups => spec.group = Name::new("one-for-all")?,
                Sin::ShedsInsteadOfFailing if spec.when_full == WhenFull::Fail => spec.when_full = WhenFull::Shed,
                Sin::LeaksTasks => drop(tokio::spawn(std::future::pending::<()>())),
                _ => {}
            }
            let inner = self.inner.subscribe(&spec).await?;
            let consumer = MutantConsumer { sin: self.sin, inner, memory: Mutex::default(), lock: self.lock.clone() };
            Ok(Arc::new(consumer) as Arc<dyn Consumer>)
        })
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        Answer::later(self.publish_wrong(outgoing))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.closed.store(true, Ordering::SeqCst);
        self.inner.close()
    }
}

impl Mutant {
    fn of(sin: Sin, inner: Arc<dyn Broker>) -> Arc<dyn Broker> {
        let lock = Arc::new(tokio::sync::Semaphore::new(1));
        let mut declared = inner.capabilities().clone();
        if sin == Sin::ForgetsOnRestart {
            declared.durability = Durability::Restart;
        }
        if sin == Sin::TakesWhatItLacks {
            declared.ordered = false;
        }
        Arc::new(Self { sin, inner, declared, count: AtomicU64::new(0), closed: AtomicBool::new(false), lock })
    }

    async fn publish_wrong(&self, outgoing: Outgoing) -> Result<Published, PublishFailure> {
        let Outgoing { messages, mut delay, origin } = outgoing;
        let mut messages = match messages {
            Messages::One(message) => vec![message],
            Messages::Many(messages) => messages,
        };
        let mut dropped = 0;
        match self.sin {
            Sin::DropsEvery50th => messages.retain(|_| {
                let kept = self.count.fetch_add(1, Ordering::SeqCst) % 50 != 49;
                dropped += u64::from(!kept);
                kept
            }),
            Sin::SwapsNeighboursOfAKey => swap_neighbours(&mut messages),
            Sin::CutsPayloads => messages = messages.into_iter().map(cut).collect(),
            Sin::CutsKeysAtNul => messages = messages.into_iter().map(cut_key).collect(),
            Sin::RewritesJson => messages = messages.into_iter().map(rewrite).collect(),
            Sin::PublishesWithoutDelay => delay = Duration::ZERO,
            Sin::AcceptsAfterClose if self.closed.load(Ordering::SeqCst) => return Ok(Published::default()),
            Sin::StoresPartsOfACall => {
                let mut published = Published::default();
                for message in messages {
                    let one = self.inner.publish(single(message)).await;
                    published.deliveries += one.map_err(|failure| PublishFailure { stored: 0, ..failure })?.deliveries;
                }
                return Ok(published);
            }
            _ => {}
        }
        if messages.is_empty() {
            return Ok(Published { deliveries: dropped });
        }
        let published = self.inner.publish(Outgoing { messages: Messages::Many(messages), delay, origin }).await?;
        Ok(Published { deliveries: published.deliveries + dropped })
    }
}

/// Exchanges the first two messages of a key.
fn swap_neighbours(messages: &mut [Message]) {
    let pairs = || (0..messages.len()).flat_map(|one| (one + 1..messages.len()).map(move |other| (one, other)));
    let found = pairs().find(|(one, other)| messages[*one].key().is_some() && messages[*one].key() == messages[*other].key());
    if let Some((one, other)) = found {
        messages.swap(one, other);
    }
}

/// The message with at most 64 KiB of payload.
fn cut(message: Message) -> Message {
    let bytes = message.payload().to_bytes().unwrap_or_default();
    with_payload(&message, Payload::from_bytes(bytes.slice(..bytes.len().min(64 * 1024))))
}

/// One message on its way.
fn single(message: Message) -> Outgoing {
    Outgoing { messages: Messages::One(message), delay: Duration::ZERO, origin: None }
}

/// As text does that ends where a NUL stands.
fn cut_key(message: Message) -> Message {
    let key = message.key().and_then(|key| key.split('\0').next()).map(Into::into);
    message.with_key(key)
}

/// As a column of JSON does: equal to those who read JSON, and not the same.
fn rewrite(message: Message) -> Message {
    let bytes = message.payload().to_bytes().unwrap_or_default();
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(value) => with_payload(&message, Payload::from_bytes(value.to_string())),
        Err(_) => message,
    }
}

fn with_payload(message: &Message, payload: Payload) -> Message {
    Message::new(message.topic().clone(), message.version(), payload)
        .with_id(message.id().clone())
        .with_time(message.time())
        .with_key(message.key().map(Into::into))
        .with_headers(message.headers().clone())
}

impl DeadLetters for Mutant {
    fn count(&self) -> Answer<'_, Result<u64>> {
        self.inner.dead_letters().count()
    }

    fn list<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<Vec<DeadLetter>>> {
        Answer::later(async move {
            let mut letters = self.inner.dead_letters().list(filter).await?;
            if self.sin == Sin::ForgetsEarlierFailures {
                for letter in &mut letters {
                    letter.failures = Arc::new(letter.failures.last().cloned().into_iter().collect());
                }
            }
            Ok(letters)
        })
    }

    fn replay<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        match self.sin {
            Sin::ReplaysToNobody => self.inner.dead_letters().purge(filter),
            Sin::ReplaysToEverybody => Answer::later(async move {
                for letter in self.inner.dead_letters().list(filter).await? {
                    self.inner.publish(single(letter.message)).await?;
                }
                self.inner.dead_letters().purge(filter).await
            }),
            _ => self.inner.dead_letters().replay(filter),
        }
    }

    fn purge<'a>(&'a self, filter: &'a DeadLetterFilter) -> Answer<'a, Result<u64>> {
        if self.sin != Sin::PurgesTooMuch {
            return self.inner.dead_letters().purge(filter);
        }
        Answer::later(async move {
            let wider = DeadLetterFilter { subscription: None, ..filter.clone() };
            self.inner.dead_letters().purge(&wider).await?;
            Ok(1)
        })
    }
}

impl Consumer for MutantConsumer {
    fn id(&self) -> ConsumerId {
        self.inner.id()
    }

    fn receive(&self, lane: u32, max: usize, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        Answer::later(async move {
            if let Some(echo) = self.memory().echo.pop() {
                return Ok(vec![echo]);
            }
            let _alone = match self.sin {
                Sin::SharesOneLock => Some(self.lock.acquire().await?),
                _ => None,
            };
            let mut deliveries = self.inner.receive(lane, max, into).await?;
            match self.sin {
                Sin::DropsCancelledReceives => tokio::task::yield_now().await,
                // Longer than the handlers of a case: whoever receives keeps the others waiting.
                Sin::SharesOneLock => tokio::time::sleep(Duration::from_millis(60)).await,
                _ => {}
            }
            for delivery in &mut deliveries {
                self.spoil(delivery);
            }
            Ok(deliveries)
        })
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        Answer::later(async move {
            let any_ack = settlements.iter().any(|settlement| matches!(settlement.verdict, Verdict::Ack));
            let settlements = settlements.into_iter().map(|settlement| self.judge_wrong(settlement, any_ack)).collect();
            let mut settled = self.inner.settle(settlements).await;
            if matches!(self.sin, Sin::HidesLostLeases | Sin::HandsOutTwice) {
                settled.lost.clear();
            }
            if self.sin == Sin::AcksRefusedDeadLetters {
                let acks = settled.failed.drain(..).map(|(settlement, _)| Settlement { verdict: Verdict::Ack, ..settlement }).collect();
                self.inner.settle(acks).await;
            }
            settled
        })
    }

    fn renew<'a>(&'a self, tokens: &'a [Token]) -> Answer<'a, Result<Vec<Token>>> {
        if self.sin == Sin::NeverRenews { Answer::ready(Ok(Vec::new())) } else { self.inner.renew(tokens) }
    }

    fn depth(&self) -> Depth {
        let depth = self.inner.depth();
        if self.sin == Sin::ShedsInSilence { Depth { shed: 0, ..depth } } else { depth }
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        Answer::later(async move {
            if self.sin == Sin::AcksOnClose {
                let given: Vec<_> = self.memory().given.drain().collect();
                let delivery = |token, message| Delivery { message, attempt: 1, token, failures: None };
                let acks =
                    given.into_iter().map(|(_, (token, message))| Settlement { delivery: delivery(token, message), verdict: Verdict::Ack });
                self.inner.settle(acks.collect()).await;
            }
            self.inner.close().await
        })
    }
}

impl MutantConsumer {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a delivery, and sins on it.
    fn spoil(&self, delivery: &mut Delivery) {
        let mut memory = self.memory();
        memory.given.insert(delivery.message.id().clone(), (delivery.token, delivery.message.clone()));
        match self.sin {
            Sin::NeverCountsAttempts => delivery.attempt = 1,
            Sin::LosesHeaders => delivery.message = delivery.message.clone().with_headers(Headers::new()),
            Sin::HandsOutTwice if memory.given.len() % 10 == 5 => memory.echo.push(Delivery {
                message: delivery.message.clone(),
                attempt: delivery.attempt,
                token: delivery.token,
                failures: delivery.failures.clone(),
            }),
            _ => {}
        }
    }

    fn judge_wrong(&self, settlement: Settlement, any_ack: bool) -> Settlement {
        let Settlement { mut delivery, verdict } = settlement;
        let known = if self.sin == Sin::IgnoresToken {
            self.memory().given.get(delivery.message.id()).map(|(token, _)| *token)
        } else {
            self.memory().given.remove(delivery.message.id()).map(|(token, _)| token)
        };
        if self.sin == Sin::IgnoresToken {
            delivery.token = known.unwrap_or(delivery.token);
        }
        let attempt = delivery.attempt;
        let verdict = match (self.sin, verdict) {
            (Sin::AcksWholeBatches, _) if any_ack => Verdict::Ack,
            (Sin::RetriesEarly, Verdict::Retry { failure, .. }) => Verdict::Retry { after: Duration::ZERO, failure },
            (Sin::RetryIsAck, Verdict::Retry { .. }) | (Sin::ForgetsDeadLetters, Verdict::DeadLetter { .. }) => Verdict::Ack,
            (Sin::CountsReleases, Verdict::Release { after }) => {
                Verdict::Retry { after, failure: Box::new(Failure::new(FailureKind::Error, attempt, "released")) }
            }
            (_, verdict) => verdict,
        };
        Settlement { delivery, verdict }
    }
}

/// Opens mutants of the memory broker.
struct Mutants(Sin);

impl Backend for Mutants {
    fn name(&self) -> &str {
        "a mutant"
    }

    fn open<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        Answer::later(async move { Ok(Mutant::of(self.0, PAUSED.open(storage).await?)) })
    }

    fn open_without_dead_letters<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Option<Arc<dyn Broker>>, BoxError>> {
        Answer::later(async move { Ok(PAUSED.open_without_dead_letters(storage).await?.map(|inner| Mutant::of(self.0, inner))) })
    }

    fn clock(&self) -> Clock {
        PAUSED.clock()
    }
}

/// Each case named for a sin must fail on it.
macro_rules! noticed {
    ($($test:ident: $sin:ident by $($case:ident)+;)*) => {$(
        #[test]
        fn $test() {
            for name in [$(stringify!($case)),+] {
                let report = run(Suite::new(Mutants(Sin::$sin)).size(Size::Short).only(name));
                let [row] = report.rows() else { panic!("{name} is no case") };
                match &row.outcome {
                    Outcome::Fail(_noticed) => {}
                    Outcome::Pass => panic!("{name} let {:?} pass", Sin::$sin),
                    Outcome::NotApplicable(why) => panic!("{name} did not even run: {why}"),
                }
            }
        }
    )*};
}

#[test]
fn without_sin_every_case_passes() {
    run(Suite::new(Mutants(Sin::None)).size(Size::Short)).assert();
}

noticed! {
    dropping_every_50th_is_noticed: DropsEvery50th by publish_subscribe concurrent_subscribe consumer_groups publisher_done;
    handing_out_twice_is_noticed: HandsOutTwice by publish_subscribe continue_after_errors;
    swapping_neighbours_is_noticed: SwapsNeighboursOfAKey by publish_subscribe_in_order order_per_key_under_concurrency no_ack;
    ignoring_order_is_noticed: IgnoresOrder by no_ack order_per_key_under_concurrency order_waits_for_retry;
    ignoring_the_token_is_noticed: IgnoresToken by stale_settlement;
    hiding_lost_leases_is_noticed: HidesLostLeases by stale_settlement;
    never_counting_attempts_is_noticed: NeverCountsAttempts by attempt_visible partial_batch ack_part_then_lease_ends resend_on_error;
    counting_releases_is_noticed: CountsReleases by release_is_no_attempt;
    retrying_early_is_noticed: RetriesEarly by retry_delay order_per_key_under_concurrency depth_adds_up;
    a_retry_that_acks_is_noticed: RetryIsAck by resend_on_error continue_after_errors partial_batch attempt_visible;
    acking_on_close_is_noticed: AcksOnClose by ack_part_then_close delivery_ends_with_its_consumer;
    losing_headers_is_noticed: LosesHeaders by publish_subscribe fidelity;
    cutting_payloads_is_noticed: CutsPayloads by fidelity;
    cutting_keys_at_nul_is_noticed: CutsKeysAtNul by hostile_inputs;
    rewriting_json_is_noticed: RewritesJson by hostile_inputs;
    ignoring_unsettled_max_is_noticed: IgnoresUnsettledMax by unsettled_bound;
    ignoring_the_buffer_is_noticed: IgnoresBuffer by backpressure full_fails full_sheds publish_many;
    ignoring_buffer_bytes_is_noticed: IgnoresBufferBytes by full_by_bytes;
    forgetting_dead_letters_is_noticed: ForgetsDeadLetters by partial_batch dead_letter_kept_whole fidelity fates_are_separate;
    acking_refused_dead_letters_is_noticed: AcksRefusedDeadLetters by dead_letter_refused;
    acking_whole_batches_is_noticed: AcksWholeBatches by partial_batch;
    leases_that_never_end_are_noticed: LeasesNeverEnd by ack_part_then_lease_ends stale_settlement;
    never_renewing_is_noticed: NeverRenews by lease_renewal;
    dropping_cancelled_receives_is_noticed: DropsCancelledReceives by cancelled_receive;
    publishing_without_delay_is_noticed: PublishesWithoutDelay by delayed_publish;
    mixing_groups_is_noticed: MixesGroups by consumer_groups slow_group;
    shedding_instead_of_failing_is_noticed: ShedsInsteadOfFailing by full_fails publish_many;
    shedding_in_silence_is_noticed: ShedsInSilence by full_sheds;
    storing_parts_of_a_call_is_noticed: StoresPartsOfACall by publish_many;
    accepting_after_close_is_noticed: AcceptsAfterClose by after_close;
    leaking_tasks_is_noticed: LeaksTasks by leak;
    replaying_to_nobody_is_noticed: ReplaysToNobody by dead_letter_replayed;
    replaying_to_everybody_is_noticed: ReplaysToEverybody by dead_letter_replayed;
    purging_too_much_is_noticed: PurgesTooMuch by dead_letter_purged;
    forgetting_failures_is_noticed: ForgetsEarlierFailures by dead_letter_kept_whole;
    sharing_one_lock_is_noticed: SharesOneLock by real_parallelism;
    forgetting_on_restart_is_noticed: ForgetsOnRestart by survives_a_restart;
    taking_what_it_lacks_is_noticed: TakesWhatItLacks by undeclared_is_refused;
}
