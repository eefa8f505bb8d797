//! Who is compared with whom.

use crate::harness::{Budget, Contestant, Figure, Row, Scheduler};
use crate::{ours, peers};

const OURS: &str = "abe-events, typed hand-over";
const OURS_JSON: &str = "abe-events, JSON both ways";
const RUSTSTREAM: &str = "RustStream 0.7 memory, JSON both ways";
const OMNIQUEUE: &str = "omniqueue 0.3 memory, JSON both ways";
const APALIS: &str = "apalis 1.0 memory, typed, no layers";
const APALIS_GUARDED: &str = "apalis 1.0 memory, catch_panic + timeout";

/// The same on one thread, where most of the peers are at their best, and on two.
pub fn all() -> [Row; 2] {
    [("peers-1", Scheduler::Current), ("peers-2", Scheduler::Workers(2))].map(|(key, scheduler)| {
        let budget = |against, at_most| Budget { id: "P6", contestant: OURS, against, figure: Figure::Cpu, at_most };
        Row {
            key,
            title: "publish + handle + ack, memory brokers, each event built for it",
            scheduler,
            messages: 100_000,
            unit: "message",
            counts_allocations: true,
            contestants: vec![
                Contestant::new(OURS, ours::typed),
                Contestant::new(OURS_JSON, ours::json_both_ways),
                Contestant::new(RUSTSTREAM, peers::ruststream),
                Contestant::new(OMNIQUEUE, peers::omniqueue),
                Contestant::new(APALIS, peers::apalis),
                Contestant::new(APALIS_GUARDED, peers::apalis_guarded),
            ],
            budgets: vec![budget(RUSTSTREAM, 0.5), budget(OMNIQUEUE, 0.5), budget(APALIS, 1.0 / 3.0)],
        }
    })
}
