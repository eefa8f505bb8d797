//! The handle of a running runtime: publish, watch, stop.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::builder::RuntimeBuilder;
use super::dead_letters::DeadLetterDesk;
use super::launch;
use super::monitor::{Monitor, SubscriptionMonitor, TopicMonitor};
use super::shutdown::{RuntimeState, Shutdown, Stopped, signal};
use super::store::{Relaying, Stored};
use super::subscription::Subscription;
use super::watchdog::Watchdog;
use crate::broker::{Broker, Messages};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventDescriptor;
use crate::lane_scope;
use crate::message::{Id, Message};
use crate::publisher::{Limits, Publish, Publishable, Publisher};

/// A running runtime. Cloning it gives another handle to the same one.
///
/// When the last handle is dropped the runtime drains in the background; [`stop`](Runtime::stop) or
/// [`stopped`](Runtime::stopped) tell how that ended.
#[derive(Clone)]
pub struct Runtime(Arc<Owner>);

/// Begins draining when the last handle is gone; the lanes hold the parts they need on their own.
struct Owner(Arc<Inner>);

pub(super) struct Inner {
    pub(super) broker: Arc<dyn Broker>,
    /// Whether the broker was opened by URL, so that nobody else will close it.
    pub(super) owns_broker: bool,
    pub(super) publisher: Publisher,
    pub(super) limits: Arc<Limits>,
    pub(super) subscriptions: Vec<Arc<Subscription>>,
    pub(super) shutdown: Arc<Shutdown>,
    pub(super) config: Config,
    pub(super) events: Vec<&'static EventDescriptor>,
    pub(super) began: Instant,
    /// Taken by the one that drains.
    pub(super) lanes: Mutex<Option<JoinSet<()>>>,
    pub(super) ended: Mutex<Option<Stopped>>,
    pub(super) watchdog: Mutex<Option<Watchdog>>,
    pub(super) stored: Stored,
    pub(super) relaying: Mutex<Option<Relaying>>,
}

impl Runtime {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(Owner(Arc::new(inner))))
    }

    fn inner(&self) -> &Inner {
        &self.0.0
    }

    /// The way to the broker, as long as what is published may still be handled.
    fn publisher(&self) -> Result<&Publisher> {
        let closed = match self.state() {
            RuntimeState::Stopped => Some("the runtime is stopped, nothing is published"),
            // Handlers still publish, through their context.
            RuntimeState::Draining if self.inner().ends_with_process() && lane_scope::current().is_none() => {
                Some("the runtime is draining, and its memory broker keeps nothing for a next one")
            }
            _ => None,
        };
        if let Some(text) = closed {
            return Err(Error::new(ErrorKind::Closed, text));
        }
        Ok(&self.inner().publisher)
    }

    /// A builder: state, settings, chosen handlers, a broker of one's own.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Publishes an event, by value or shared in an `Arc`, and answers its id.
    ///
    /// `Ok` means that every subscription that takes the event holds it, as durably as the broker promises.
    /// A full queue makes it wait, unless the subscription's policy says otherwise.
    ///
    /// Called by a handler, it does what [`Context::publish`](crate::Context::publish) does: the event carries the correlation
    /// id on, names the handler's message as its cause, and is one hop further. A task that the handler spawned is no longer
    /// the handler, and begins a new chain.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotStored`](crate::ErrorKind::NotStored), [`Full`](crate::ErrorKind::Full),
    /// [`TooLarge`](crate::ErrorKind::TooLarge) and [`Closed`](crate::ErrorKind::Closed): certainly not published.
    /// [`ErrorKind::Unknown`](crate::ErrorKind::Unknown): perhaps; publish again with the same id.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting, the outcome is unknown: the event may be stored for some subscriptions.
    pub async fn publish<P: Publishable>(&self, event: P) -> Result<Id> {
        self.publisher()?.publish(event).await
    }

    /// Publishes events in order, as one batch: cheaper than one by one. They bear the time at which the batch was begun.
    ///
    /// # Errors
    ///
    /// As [`publish`](Runtime::publish); the error says how many went out before it, unless the broker stores all or none.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting, a first part of the events is published.
    pub async fn publish_all<P: Publishable>(&self, events: impl IntoIterator<Item = P>) -> Result<()> {
        let publisher = self.publisher()?;
        let messages = publisher.messages(events, lane_scope::lineage())?;
        if messages.is_empty() {
            return Ok(());
        }
        publisher.send_delayed(Messages::Many(messages), Duration::ZERO).await
    }

    /// Publishes with a delay, headers, a key, an id, a time or a correlation id.
    pub fn publishing<P: Publishable>(&self, event: P) -> Publish<'_> {
        let publish = self.inner().publisher.publishing(event);
        match lane_scope::lineage() {
            Some(lineage) => publish.caused_by(lineage),
            None => publish,
        }
    }

    /// The outbox within a transaction of the user's own, on the store's database: what is published into it is published
    /// if and when that transaction commits, and else never was.
    ///
    /// ```no_run
    /// # #[cfg(all(feature = "sqlite", feature = "macros"))]
    /// # mod example {
    /// use abe_events::sqlx::{self, SqlitePool};
    /// use abe_events::{Result, Runtime, event};
    ///
    /// #[event(topic = "order.created")]
    /// struct OrderCreated { order_id: i64 }
    ///
    /// async fn order(runtime: &Runtime, pool: &SqlitePool) -> Result<()> {
    ///     let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    ///     let insert = sqlx::query("INSERT INTO orders DEFAULT VALUES").execute(&mut *tx).await?;
    ///     runtime.outbox(&mut tx).publish(OrderCreated { order_id: insert.last_insert_rowid() }).await?;
    ///     Ok(tx.commit().await?)
    /// }
    /// # }
    /// ```
    ///
    /// A relay of this process, or of another on the same database, hands it to the broker: at least once, under the same
    /// id, in order per key. It looks every 200 ms at most.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub fn outbox<'c>(&'c self, transaction: impl crate::store::IntoOutbox<'c>) -> crate::store::Outbox<'c> {
        let inner = self.inner();
        crate::store::Outbox::new(inner.stored.store(), &inner.publisher, transaction.into_via())
    }

    /// The log of every event and what became of it, if one is kept: [`RuntimeBuilder::event_log`], or `event_log:` in the
    /// configuration.
    ///
    /// ```no_run
    /// # #[cfg(feature = "sqlite")]
    /// # async fn example() -> abe_events::Result<()> {
    /// use std::time::Duration;
    ///
    /// use abe_events::Runtime;
    /// use abe_events::runtime::{LogFilter, LogStatus};
    ///
    /// let runtime = Runtime::builder().store("sqlite://events.db").event_log(Duration::from_secs(7 * 24 * 3600)).start().await?;
    /// let failed = LogFilter { status: Some(LogStatus::Failed), ..LogFilter::default() };
    /// for event in runtime.event_log()?.list(&failed).await? {
    ///     println!("{} {:?}", event.message.topic(), event.fates);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when there is no log.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub fn event_log(&self) -> Result<crate::store::EventLog<'_>> {
        let inner = self.inner();
        match inner.stored.store().filter(|_| inner.config.event_log.is_some()) {
            Some(store) => Ok(crate::store::EventLog::new(store)),
            None => {
                let text = "this runtime keeps no event log; say `.event_log(..)` on the builder, or `event_log:` in the configuration";
                Err(Error::new(ErrorKind::Unsupported, text))
            }
        }
    }

    /// Publishes a message that was made elsewhere: read from bytes, or relayed. Keeps its id, and the chain it is part of,
    /// also within a handler.
    ///
    /// # Errors
    ///
    /// As [`publish`](Runtime::publish).
    pub async fn publish_message(&self, message: Message) -> Result<Id> {
        self.publisher()?.send(message).await
    }

    /// The numbers at this moment.
    pub fn monitor(&self) -> Monitor {
        let inner = self.inner();
        Monitor {
            uptime: inner.began.elapsed(),
            published: inner.limits.published(),
            unrouted: inner.limits.unrouted.load(Ordering::Relaxed),
            topics: inner.limits.topics().into_iter().map(|(topic, published)| TopicMonitor { topic, published }).collect(),
            subscriptions: inner.subscriptions.iter().map(|subscription| SubscriptionMonitor::read(subscription)).collect(),
            outbox: inner.stored.monitor(),
        }
    }

    /// What failed for good: list, show, replay, purge.
    pub fn dead_letters(&self) -> DeadLetterDesk<'_> {
        DeadLetterDesk::new(&*self.inner().broker, &self.inner().events)
    }

    /// Where the runtime is in its life; reads one atomic.
    pub fn state(&self) -> RuntimeState {
        self.inner().shutdown.state()
    }

    /// The broker behind this runtime.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner().broker
    }

    /// Waits until draining begins: the moment to refuse new work at a program's own doors.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and asked again.
    pub async fn draining(&self) {
        self.inner().shutdown.draining.cancelled().await;
    }

    /// Waits until no message is waiting, running or due later, in any subscription of this runtime, nor in the outbox of its
    /// store. Looks every few milliseconds; for programs with an end, and for examples. Tests have `TestBus::settled`, of the
    /// feature `testing`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and asked again.
    pub async fn settled(&self) {
        let inner = self.inner();
        let at_rest = || inner.subscriptions.iter().all(|subscription| subscription.consumer.depth().pending() == 0);
        // Twice, for what the relay takes from one place to the other in between.
        while !(at_rest() && inner.stored.is_relayed().await && at_rest() && inner.stored.is_relayed().await && at_rest())
            && self.state() != RuntimeState::Stopped
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Drains and stops. Half-full batches run with what they have, what is in flight is finished, verdicts are carried
    /// out. Where messages outlive the process nothing new is started, and what waits is there for the next instance;
    /// with the memory broker of this runtime's own, what waits is handled as well, since it would be lost.
    /// At the end of `shutdown_grace` what still runs is dropped and its messages are released.
    ///
    /// A broker that was opened by URL is closed; one given to the builder stays open.
    ///
    /// # Cancel safety
    ///
    /// Dropped, draining goes on only as long as another call waits for it.
    pub async fn stop(&self) -> Stopped {
        self.inner().shutdown.advance(RuntimeState::Draining);
        launch::drain(self.inner()).await
    }

    /// Waits for SIGINT or SIGTERM, then [`stop`](Runtime::stop)s; a second signal stops at once. Also answers when the
    /// runtime was stopped by another handle.
    ///
    /// # Errors
    ///
    /// When signal handlers cannot be installed, or handlers were still running at the end of the grace time.
    pub async fn stopped(&self) -> Result<()> {
        let shutdown = &self.inner().shutdown;
        tokio::select! {
            result = signal() => result?,
            () = shutdown.draining.cancelled() => {}
        }
        let second = async {
            if signal().await.is_ok() {
                tracing::warn!("second signal: stopping at once");
                shutdown.cancel.cancel();
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = self.stop() => ended,
            () = second => Stopped::Drained,
        };
        match ended {
            Stopped::Drained | Stopped::LeftBehind { .. } => Ok(()),
            Stopped::Cut { .. } => Err(Error::new(ErrorKind::Timeout, ended.to_string())),
        }
    }
}

impl Inner {
    /// Whether what is published here ends with this runtime: its broker is its own, and keeps nothing.
    pub(super) fn ends_with_process(&self) -> bool {
        self.shutdown.empties_queues
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.0.shutdown.advance(RuntimeState::Draining)
            && let Ok(tokio) = tokio::runtime::Handle::try_current()
        {
            let inner = self.0.clone();
            tokio.spawn(async move { launch::drain(&inner).await });
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("broker", &self.inner().broker).field("state", &self.state()).finish_non_exhaustive()
    }
}
