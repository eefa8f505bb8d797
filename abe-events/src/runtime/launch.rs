//! The steps of a start, in order; and the steps of a stop.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::handle::{Inner, Runtime};
use super::lane;
use super::monitor::LaneStats;
use super::observer::Observer;
use super::shutdown::{RuntimeState, Shutdown, Stopped};
use super::store::{Relaying, Stored};
use super::subscription::Subscription;
use super::watchdog::Watchdog;
use crate::broker::{Broker, Capabilities, Durability, StartPosition, SubscriptionSpec};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::handler::{BoxWorker, Resolver, States};
use crate::mutant;
use crate::policy::LEASE;
use crate::publisher::{Limits, Publisher};
use crate::registry::{Declared, Planned, Severity, start_error};

/// A broker, and whether this runtime opened it and is to close it.
pub(super) struct Connected {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) owned: bool,
}

/// What only the builder can say.
pub(super) struct Extras {
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) lease: Option<Duration>,
    pub(super) stored: Stored,
}

/// Judges, binds, subscribes, runs.
pub(super) async fn launch(declared: &Declared, config: Config, states: &States, broker: Connected, extras: Extras) -> Result<Runtime> {
    let Connected { broker, owned: owns_broker } = broker;
    let (planned, report) = declared.plan(&config, Some(broker.capabilities()));
    let mut faults: Vec<String> = report.errors().map(ToString::to_string).collect();
    let bound = bind(&planned, states, &mut faults);
    if let Some(error) = start_error(&faults) {
        return Err(error);
    }
    for finding in &report.findings {
        match finding.severity {
            Severity::Warning => tracing::warn!("{finding}"),
            Severity::Note => tracing::debug!("{finding}"),
            Severity::Error => {}
        }
    }
    let durable = broker.capabilities().durability > Durability::Process;
    let shutdown = Arc::new(Shutdown::new(owns_broker && !durable));
    let limits = Arc::new(Limits::new(config.payload_bytes_max.min(broker.capabilities().payload_bytes_max)));
    let broker = extras.stored.logged(broker, config.event_log)?;
    let publisher = extras.stored.publisher(&broker, &limits, config.store_first)?;
    let around = Surroundings {
        config: &config,
        broker: &broker,
        publisher: &publisher,
        shutdown: &shutdown,
        gate: Arc::default(),
        observer: extras.observer,
        lease: extras.lease,
        stored: &extras.stored,
    };
    let mut subscriptions = Vec::with_capacity(bound.len());
    for Bound { plan, worker, transacts } in bound {
        match subscribe(plan, worker, transacts, &around).await {
            Ok(subscription) => subscriptions.push(Arc::new(subscription)),
            Err(error) => {
                close_all(&subscriptions).await;
                return Err(error.context(format_args!("subscribing `{}` ({})", plan.name, plan.handler.spec.at)));
            }
        }
    }
    let watchdog = Watchdog::start(&subscriptions).map_err(|error| Error::from(error).context("starting the watchdog thread"))?;
    let mut lanes = JoinSet::new();
    for subscription in &subscriptions {
        for number in 0..subscription.policy.concurrency {
            lanes.spawn(lane::run(subscription.clone(), number));
        }
    }
    let relaying = extras.stored.start(&Publisher::new(broker.clone(), limits.clone()), extras.lease.unwrap_or(LEASE), durable);
    tell(&report, broker.capabilities());
    shutdown.advance(RuntimeState::Running);
    let inner = Inner {
        broker,
        owns_broker,
        publisher,
        limits,
        subscriptions,
        shutdown,
        config,
        events: declared.events.clone(),
        began: Instant::now(),
        lanes: Mutex::new(Some(lanes)),
        ended: Mutex::new(None),
        watchdog: Mutex::new(Some(watchdog)),
        stored: extras.stored,
        relaying: Mutex::new(Some(relaying)),
    };
    Ok(Runtime::new(inner))
}

/// A handler's loop, and whether it works in transactions.
struct Bound<'a> {
    plan: &'a Planned,
    worker: BoxWorker,
    transacts: bool,
}

/// Builds every handler's loop, and notes all that is missing before anything runs.
fn bind<'a>(planned: &'a [Planned], states: &States, faults: &mut Vec<String>) -> Vec<Bound<'a>> {
    let mut bound = Vec::with_capacity(planned.len());
    for plan in planned {
        let mut resolver = Resolver::new(states);
        let worker = (plan.handler.bind)(&mut resolver);
        let transacts = resolver.needs_transaction();
        for missing in resolver.into_missing() {
            faults.push(format!("handler `{}`: {missing} ({})", plan.handler.spec.name, plan.handler.spec.at));
        }
        bound.extend(worker.map(|worker| Bound { plan, worker, transacts }));
    }
    bound
}

/// What all subscriptions of a runtime are made with.
struct Surroundings<'a> {
    config: &'a Config,
    broker: &'a Arc<dyn Broker>,
    publisher: &'a Publisher,
    shutdown: &'a Arc<Shutdown>,
    gate: Arc<lane::Gate>,
    observer: Option<Arc<dyn Observer>>,
    lease: Option<Duration>,
    stored: &'a Stored,
}

async fn subscribe(plan: &Planned, worker: BoxWorker, transacts: bool, around: &Surroundings<'_>) -> Result<Subscription> {
    let policy = plan.policy.clone();
    let lanes = policy.concurrency as usize;
    // Where a consumer cannot die without its broker, nothing needs to be kept for the case that it does.
    let needed = (!around.broker.capabilities().leases_optional).then_some(LEASE);
    let lease = around.lease.or(needed);
    // Before anything can be received: what the broker hands out must be settled.
    let (inbox, transactions) = if transacts {
        (None, Some(around.stored.transactions(plan, around.publisher).await?))
    } else {
        (around.stored.inbox(plan, around.lease.unwrap_or(LEASE)).await?, None)
    };
    let consumer = around.broker.subscribe(&spec_of(plan, lease)).await?;
    Ok(Subscription {
        name: plan.name.clone(),
        handler: plan.handler,
        consumer,
        worker,
        lease,
        inbox,
        transactions,
        policy,
        publisher: around.publisher.clone(),
        shutdown: around.shutdown.clone(),
        gate: around.gate.clone(),
        observer: around.observer.clone(),
        hops_max: around.config.max_hops,
        payload_bytes_max: around.config.payload_bytes_max,
        stats: (0..lanes).map(|_| CachePadded::new(LaneStats::default())).collect(),
        cut: AtomicBool::new(false),
        pulses: (0..lanes).map(|_| CachePadded::new(AtomicU32::new(0))).collect(),
        stalled: AtomicU64::new(0),
    })
}

fn spec_of(plan: &Planned, lease: Option<Duration>) -> SubscriptionSpec {
    let policy = &plan.policy;
    SubscriptionSpec {
        group: plan.group.clone(),
        name: plan.name.clone(),
        topics: plan.topics.clone(),
        start: StartPosition::Latest,
        lanes: policy.concurrency,
        // What a lane takes at once: a batch, or as many as share one call.
        unsettled_max: policy.batch.max(64).saturating_mul(policy.concurrency),
        lease,
        ordered: policy.ordered && !mutant::is("unordered"),
        buffer: policy.buffer,
        buffer_bytes: policy.buffer_bytes,
        when_full: policy.when_full,
    }
}

fn tell(report: &crate::registry::Report, capabilities: &Capabilities) {
    for handler in &report.handlers {
        tracing::info!(broker = capabilities.name, "subscribed {handler}");
    }
    if capabilities.durability == Durability::Process {
        tracing::info!("the {} broker keeps messages and dead letters in memory only: they end with this process", capabilities.name);
    }
    if cfg!(panic = "abort") {
        tracing::warn!("built with `panic = \"abort\"`: a panicking handler ends the process, and nothing catches it");
    }
}

async fn close_all(subscriptions: &[Arc<Subscription>]) {
    for subscription in subscriptions {
        if let Err(error) = subscription.consumer.close().await {
            tracing::warn!(handler = subscription.name(), %error, "closing failed");
        }
    }
}

/// Draining to its end: waits for the lanes, cuts them at the deadline, closes.
pub(super) async fn drain(inner: &Inner) -> Stopped {
    let lanes = inner.lanes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let Some(mut lanes) = lanes else {
        // Someone else drains: the answer is theirs.
        inner.shutdown.stopped.cancelled().await;
        let ended = inner.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        return ended.clone().unwrap_or(Stopped::Drained);
    };
    tracing::info!(grace = ?inner.config.shutdown_grace, "draining: what is in flight is finished");
    let deadline = Instant::now() + inner.config.shutdown_grace;
    let finished = async {
        if inner.ends_with_process() {
            handle_backlog(inner).await;
        }
        inner.shutdown.end_starts();
        all(&mut lanes).await;
    };
    let cut = tokio::select! {
        () = finished => false,
        () = tokio::time::sleep_until(deadline) => true,
        () = inner.shutdown.cancel.cancelled() => true,
    };
    // Also where the lanes had already dropped what ran.
    let handlers = busy(inner);
    if cut {
        inner.shutdown.end_starts();
        inner.shutdown.cancel.cancel();
        // A handler that awaits is dropped at once. One that keeps its thread cannot be: its lane is let go, and settles
        // when it gets that far.
        let _ = tokio::time::timeout(Duration::from_secs(1), all(&mut lanes)).await;
        lanes.detach_all();
    }
    let relaying = inner.relaying.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(relaying) = relaying {
        // Within what is left of the grace time, and not without any.
        let rest = tokio::time::sleep_until(deadline.max(Instant::now() + Duration::from_secs(1)));
        Relaying::stop(relaying, rest).await;
    }
    let left: u64 = inner.subscriptions.iter().map(|subscription| subscription.consumer.depth().pending()).sum();
    close_all(&inner.subscriptions).await;
    if inner.owns_broker
        && let Err(error) = inner.broker.close().await
    {
        tracing::warn!(%error, "closing the broker failed");
    }
    inner.stored.close().await;
    inner.watchdog.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let ended = match handlers {
        handlers if !handlers.is_empty() => Stopped::Cut { handlers },
        _ if left > 0 && inner.ends_with_process() => Stopped::LeftBehind { messages: left },
        _ => Stopped::Drained,
    };
    match &ended {
        Stopped::LeftBehind { .. } => tracing::error!("stopped: {ended}"),
        Stopped::Drained => tracing::info!("stopped: {ended}"),
        Stopped::Cut { .. } => tracing::error!("stopped: {ended}; their messages were released"),
    }
    *inner.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(ended.clone());
    inner.shutdown.advance(RuntimeState::Stopped);
    ended
}

/// What waits in a broker that ends with this runtime is handled now or never. What is due later is not waited for.
async fn handle_backlog(inner: &Inner) {
    let waits = || {
        let depths = inner.subscriptions.iter().map(|subscription| subscription.consumer.depth());
        depths.map(|depth| depth.ready + depth.unsettled).sum::<u64>() > 0
    };
    while waits() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn all(lanes: &mut JoinSet<()>) {
    while lanes.join_next().await.is_some() {}
}

fn busy(inner: &Inner) -> Vec<String> {
    inner.subscriptions.iter().filter(|subscription| subscription.is_busy()).map(|subscription| subscription.name().to_owned()).collect()
}
