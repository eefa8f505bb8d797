//! What a broker can do, as data: the runtime checks policies against it, the conformance suite selects cases by it.

/// What a broker can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The broker's name, as in its URL scheme.
    pub name: &'static str,
    /// What stored messages survive.
    pub durability: Durability,
    /// Whether wildcards in topics are matched by the broker; otherwise they resolve at start against declared events.
    pub wildcards: bool,
    /// Whether order per key holds over retries.
    pub ordered: bool,
    /// Whether all messages of one `publish` are stored, or none.
    pub atomic_publish: bool,
    /// Whether a stale settlement is refused by the broker itself.
    pub fencing: bool,
    /// Whether a consumer cannot die without the broker, so that a subscription may do without a lease.
    pub leases_optional: bool,
    /// Whether retries and delayed publishes survive a restart of the program.
    pub durable_delays: bool,
    /// Where a new subscription may start.
    pub start: &'static [StartPosition],
    /// Whether several consumers of one subscription work at the same time.
    pub competing_consumers: bool,
    /// Whether [`SubscriptionSpec::buffer`](super::SubscriptionSpec::buffer), `buffer_bytes` and `when_full` bound what waits
    /// in a queue. Otherwise the store is the bound: a backlog on a disk may be long, and nobody is kept waiting for it.
    pub bounded_queues: bool,
    /// The largest payload, in bytes.
    pub payload_bytes_max: usize,
}

/// What a stored message survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: it ends with the process.
    Process,
    /// The end of the process.
    Restart,
    /// The end of the server's process.
    ServerCrash,
    /// A power failure of the machine that stores it.
    PowerLoss,
}

/// Where a new subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartPosition {
    /// With what is published after it was made.
    Latest,
    /// With everything the broker still holds.
    Earliest,
}
