//! One subscription of a running runtime: what all its lanes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::lane::Gate;
use super::monitor::LaneStats;
use super::observer::Observer;
use super::shutdown::Shutdown;
use crate::broker::Consumer;
use crate::handler::{BoxWorker, HandlerDescriptor, HeaderRule};
use crate::inbox::{Inbox, Transactions};
use crate::message::Message;
use crate::policy::Policy;
use crate::publisher::Publisher;
use crate::topic::Name;

/// A handler, its queue, its policy and its numbers.
pub(crate) struct Subscription {
    pub(crate) name: Name,
    pub(crate) handler: &'static HandlerDescriptor,
    pub(crate) policy: Policy,
    /// How long a delivery may stay unsettled without renewal; `None` where it needs no lease.
    pub(crate) lease: Option<Duration>,
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) worker: BoxWorker,
    pub(crate) inbox: Option<Box<dyn Inbox>>,
    /// Where the handler works in transactions; then there is no `inbox`.
    pub(crate) transactions: Option<Box<dyn Transactions>>,
    pub(crate) publisher: Publisher,
    pub(crate) shutdown: Arc<Shutdown>,
    /// The runtime's own: lets one suspect through at a time.
    pub(crate) gate: Arc<Gate>,
    /// The test kit, if it looks in.
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Longer chains end in dead letters.
    pub(crate) hops_max: u32,
    pub(crate) payload_bytes_max: usize,
    /// One for each lane.
    pub(crate) stats: Box<[CachePadded<LaneStats>]>,
    /// One for each lane: odd while its handler runs on a thread. Written by the lane, read by the watchdog.
    pub(crate) pulses: Box<[CachePadded<AtomicU32>]>,
    /// How often the watchdog found a lane's thread held for longer than the timeout.
    pub(crate) stalled: AtomicU64,
    /// Whether an attempt was dropped because the grace time was over.
    pub(crate) cut: AtomicBool,
}

impl Subscription {
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether any lane is in an attempt, or publishes what one returned; or was, when it was cut off.
    pub(crate) fn is_busy(&self) -> bool {
        self.cut.load(Ordering::Acquire)
            || self.stats.iter().any(|lane| lane.started.get() > lane.ended.get() || lane.publishing.get() > lane.published.get())
    }

    /// Whether the `headers(...)` rules hold.
    pub(crate) fn wants(&self, message: &Message) -> bool {
        self.handler.spec.headers.iter().all(|rule| match *rule {
            HeaderRule::OneOf(name, values) => message.headers().get(name).is_some_and(|given| values.contains(&given)),
            HeaderRule::Present(name) => message.headers().get(name).is_some(),
            HeaderRule::Absent(name) => message.headers().get(name).is_none(),
        })
    }
}
