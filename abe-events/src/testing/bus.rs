//! [`TestBus`] before it is started, and [`Bus`] while it runs.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::script::Script;
use super::tap::Tap;
use crate::broker::{Broker, DeadLetter, DeadLetterFilter};
use crate::config::Config;
use crate::event::{Event, Incoming};
use crate::handler::{Ended, HandlerDescriptor};
use crate::message::{Id, Message};
use crate::policy::PolicyPatch;
use crate::publisher::Publishable;
use crate::runtime::{Monitor, Runtime, RuntimeBuilder};

/// A bus to be started: choose handlers, give state, then [`start`](TestBus::start).
#[must_use = "nothing runs before `.start().await`"]
pub struct TestBus {
    builder: RuntimeBuilder,
    kit: Arc<Kit>,
}

/// A running bus: publish, wait until it is settled, look.
///
/// Its methods panic where a test would have to unwrap.
#[derive(Clone)]
pub struct Bus {
    runtime: Runtime,
    kit: Arc<Kit>,
}

/// What the bus and the test's end share.
pub(super) struct Kit {
    tap: Arc<Tap>,
    script: Arc<Script>,
    runtime: OnceLock<Runtime>,
    expected: Mutex<Expected>,
    /// Panics the test said it expects.
    panics_expected: AtomicU64,
}

#[derive(Default)]
struct Expected {
    /// Topics whose events need no handler.
    unhandled: BTreeSet<String>,
    /// Dead letters the test has looked at.
    dead_letters: BTreeSet<(String, Id)>,
}

impl TestBus {
    pub(super) fn new() -> Self {
        let kit = Kit {
            tap: Arc::new(Tap::new()),
            script: Arc::default(),
            runtime: OnceLock::new(),
            expected: Mutex::default(),
            panics_expected: AtomicU64::new(0),
        };
        let kit = Arc::new(kit);
        // Neither a file of the working directory nor the environment changes a test.
        let builder = Runtime::builder().config(Config::default()).broker(kit.tap.clone()).observer(kit.script.clone());
        Self { builder, kit }
    }

    pub(super) fn kit(&self) -> Arc<Kit> {
        self.kit.clone()
    }

    /// Runs these handlers only; without it, all that are linked into the test binary. See [`handlers!`](crate::handlers).
    pub fn handlers(mut self, handlers: impl IntoIterator<Item = impl Borrow<&'static HandlerDescriptor>>) -> Self {
        self.builder = self.builder.handlers(handlers);
        self
    }

    /// A state that handlers take as `State<S>` or `&S`.
    pub fn state<S: Send + Sync + 'static>(mut self, state: S) -> Self {
        self.builder = self.builder.state(state);
        self
    }

    /// A state that the test keeps a handle of.
    pub fn shared_state<S: Send + Sync + 'static>(mut self, state: Arc<S>) -> Self {
        self.builder = self.builder.shared_state(state);
        self
    }

    /// What handlers do that do not say it themselves.
    pub fn defaults(mut self, defaults: PolicyPatch) -> Self {
        self.builder = self.builder.defaults(defaults);
        self
    }

    /// Any other setting of the builder.
    pub fn configure(mut self, change: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// Starts the production pipeline.
    ///
    /// # Panics
    ///
    /// When the runtime refuses to start, with its findings.
    #[track_caller]
    pub fn start(self) -> impl Future<Output = Bus> {
        let caller = std::panic::Location::caller();
        async move {
            match self.builder.start().await {
                Ok(runtime) => {
                    let _ = self.kit.runtime.set(runtime.clone());
                    Bus { runtime, kit: self.kit }
                }
                Err(error) => panic!("the bus does not start ({caller}): {error}"),
            }
        }
    }

    /// Starts it and answers the error, for tests of a refusal.
    pub async fn start_error(self) -> crate::Error {
        match self.builder.start().await {
            Ok(_) => panic!("the bus started, although it was expected not to"),
            Err(error) => error,
        }
    }
}

impl Bus {
    /// The runtime itself.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Publishes an event.
    ///
    /// # Panics
    ///
    /// When it cannot be published.
    pub async fn publish<P: Publishable>(&self, event: P) -> Id {
        match self.runtime.publish(event).await {
            Ok(id) => id,
            Err(error) => panic!("publish failed: {error}"),
        }
    }

    /// Publishes events in order, as one batch.
    ///
    /// # Panics
    ///
    /// When they cannot be published.
    pub async fn publish_all<P: Publishable>(&self, events: impl IntoIterator<Item = P>) {
        if let Err(error) = self.runtime.publish_all(events).await {
            panic!("publish failed: {error}");
        }
    }

    /// Publishes a message as it might come from elsewhere.
    ///
    /// # Panics
    ///
    /// When it cannot be published.
    pub async fn publish_message(&self, message: Message) -> Id {
        match self.runtime.publish_message(message).await {
            Ok(id) => id,
            Err(error) => panic!("publish failed: {error}"),
        }
    }

    /// Waits until nothing is waiting, in flight, in a batch, or due: by counting, not by watching the clock, which is
    /// moved on whenever everything waits for it.
    pub async fn settled(&self) {
        self.kit.settled().await;
    }

    /// The events of a type that were published, by the test or by handlers, in order.
    pub fn published<E: Event>(&self) -> Vec<Arc<E>> {
        self.kit.expected().unhandled.insert(E::DESCRIPTOR.topic.to_owned());
        let messages = self.kit.tap.published();
        messages
            .iter()
            .filter(|message| message.topic().as_str() == E::DESCRIPTOR.topic)
            .filter_map(|message| E::open(message).ok())
            .collect()
    }

    /// All messages that were published, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.kit.tap.published()
    }

    /// How many messages a handler has handled successfully.
    pub fn handled(&self, handler: &str) -> usize {
        self.kit.script.ended(handler, |ended| *ended == Ended::Success).len()
    }

    /// The events that a handler has handled successfully, in the order it ended.
    pub fn handled_events<E: Incoming>(&self, handler: &str) -> Vec<Arc<E>> {
        self.kit.script.ended(handler, |ended| *ended == Ended::Success).iter().filter_map(|message| E::open(message).ok()).collect()
    }

    /// How many attempts of a handler failed.
    pub fn failed(&self, handler: &str) -> usize {
        self.kit.script.ended(handler, |ended| matches!(ended, Ended::Failed { .. })).len()
    }

    /// How many messages a handler's filter did not want.
    pub fn filtered(&self, handler: &str) -> usize {
        self.kit.script.ended(handler, |ended| *ended == Ended::Filtered).len()
    }

    /// How many messages a handler skipped because it had applied them before.
    pub fn duplicates(&self, handler: &str) -> usize {
        self.kit.script.ended(handler, |ended| *ended == Ended::Duplicate).len()
    }

    /// The dead letters, which the test thereby expects.
    ///
    /// # Panics
    ///
    /// When the broker does not answer.
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        let letters = self.kit.dead_letters().await;
        self.kit
            .expected()
            .dead_letters
            .extend(letters.iter().map(|letter| (letter.subscription.to_string(), letter.message.id().clone())));
        letters
    }

    /// The runtime's numbers.
    pub fn monitor(&self) -> Monitor {
        self.runtime.monitor()
    }

    /// The next attempts of a handler fail before it is called.
    pub fn fail_next(&self, handler: &str, attempts: u32, text: &str) {
        self.kit.script.fail(handler, attempts, text);
    }

    /// The next successes of a handler are lost, as if the process had died before they were settled: it runs again.
    pub fn crash_before_settle(&self, handler: &str, times: u32) {
        self.kit.script.crash(handler, times);
    }

    /// The next messages are delivered twice, with the same id.
    pub fn duplicate_next(&self, messages: u32) {
        self.kit.tap.duplicate(messages);
    }

    /// So many panics of handlers are expected.
    pub fn expect_panics(&self, count: u64) {
        self.kit.panics_expected.fetch_add(count, Ordering::Relaxed);
    }

    /// Events of this type may go unhandled. Looking at [`published`](Bus::published) says the same.
    pub fn allow_unhandled<E: Event>(&self) {
        self.kit.expected().unhandled.insert(E::DESCRIPTOR.topic.to_owned());
    }
}

impl Kit {
    fn expected(&self) -> std::sync::MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quiet now, and nothing due later either.
    async fn settled(&self) {
        while let Some(due) = self.tap.broker.idle().await {
            tokio::time::sleep_until(due).await;
        }
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        match self.tap.dead_letters().list(&DeadLetterFilter::default()).await {
            Ok(letters) => letters,
            Err(error) => panic!("dead letters cannot be listed: {error}"),
        }
    }

    /// Waits for the bus to settle, stops it, and tells what the test did not expect.
    pub(super) async fn surprises(&self) -> Vec<String> {
        let Some(runtime) = self.runtime.get() else { return Vec::new() };
        let mut surprises = Vec::new();
        // Virtual time: an hour of retries passes at once, and a handler that never ends is told instead of waited for.
        if tokio::time::timeout(Duration::from_secs(24 * 60 * 60), self.settled()).await.is_err() {
            surprises.push("the bus did not settle within a (virtual) day".to_owned());
        }
        for letter in self.dead_letters().await {
            let key = (letter.subscription.to_string(), letter.message.id().clone());
            if !self.expected().dead_letters.contains(&key) {
                surprises.push(format!(
                    "unexpected dead letter in `{}`: {} after {} attempts: {}",
                    letter.subscription,
                    letter.message.topic(),
                    letter.attempts,
                    letter.reason()
                ));
            }
        }
        let panics = self.script.panics();
        if panics.len() as u64 > self.panics_expected.load(Ordering::Relaxed) {
            surprises.extend(panics.into_iter().map(|panic| format!("unexpected panic: {panic}")));
        }
        let unhandled: BTreeSet<String> = self.tap.unhandled().into_iter().collect();
        let allowed = self.expected().unhandled.clone();
        surprises.extend(unhandled.difference(&allowed).map(|topic| {
            format!("event `{topic}` was published and nobody handles it; say `bus.allow_unhandled::<_>()` if that is meant")
        }));
        runtime.stop().await;
        surprises
    }
}

impl fmt::Debug for TestBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestBus").field("builder", &self.builder).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}
