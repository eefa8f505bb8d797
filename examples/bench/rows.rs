//! What is compared with what, and which budget is held against it.

use crate::harness::{Budget, Contestant, Figure, Row, Scheduler};
use crate::ours::{self, DEFAULT_BOUND, Handler, SAME_BOUND};
use crate::twins;
use crate::work::Source;

const BARE: &str = "tokio mpsc(1024) loop, no protection";
const OWNED: &str = "the same, event by value (one subscriber only)";
const BARE_BATCHED: &str = "the same, batches of 64 both ways";
const PROTECTED: &str = "loop + guard, timeout, 5 attempts, metrics";
const OURS: &str = "abe-events";
const OURS_DEFAULT: &str = "abe-events, default buffer (64)";
const OURS_BATCHED: &str = "abe-events, publish_all of 64";

/// All rows.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for scheduler in [Scheduler::Workers(2), Scheduler::Current] {
        rows.push(hand_off(scheduler, Source::Fresh, 1.0));
        rows.push(hand_off(scheduler, Source::shared(), 1.2));
    }
    rows.extend([batched(), json(), fan_out(), idempotent(), concurrent(), producers(), heavy(), wake_up()]);
    rows
}

fn budget(id: &'static str, contestant: &'static str, against: &'static str, at_most: f64) -> [Budget; 2] {
    [Figure::Wall, Figure::Cpu].map(|figure| Budget { id, contestant, against, figure, at_most })
}

/// P1: publish, deliver, settle.
fn hand_off(scheduler: Scheduler, source: Source, at_most: f64) -> Row {
    let fresh = matches!(source, Source::Fresh);
    let (key, title) = match (fresh, scheduler) {
        (true, Scheduler::Workers(_)) => ("fresh", "P1 publish + handle + settle, each event built for it"),
        (true, Scheduler::Current) => ("fresh-1", "P1 publish + handle + settle, each event built for it"),
        (false, Scheduler::Workers(_)) => ("shared", "P1 publish + handle + settle, one event built before"),
        (false, Scheduler::Current) => ("shared-1", "P1 publish + handle + settle, one event built before"),
    };
    let of = |source: &Source, run: fn(Source, u64) -> crate::harness::Running| {
        let source = source.clone();
        move |messages| run(source.clone(), messages)
    };
    let mut contestants = vec![
        Contestant::new(BARE, of(&source, |source, messages| Box::pin(twins::bare(source, 1, messages)))),
        Contestant::new(PROTECTED, of(&source, |source, messages| Box::pin(twins::protected(source, messages)))),
        Contestant::new(OURS, of(&source, |source, messages| Box::pin(ours::one_by_one(Handler::Plain, SAME_BOUND, source, 1, messages)))),
        Contestant::new(
            OURS_DEFAULT,
            of(&source, |source, messages| Box::pin(ours::one_by_one(Handler::Plain, DEFAULT_BOUND, source, 1, messages))),
        ),
    ];
    if fresh {
        contestants.push(Contestant::new(OWNED, twins::bare_owned));
    }
    let budgets = budget("P1", OURS, BARE, at_most).into_iter().chain(budget("P1", OURS, PROTECTED, 0.8)).collect();
    Row { key, title, scheduler, messages: 200_000, unit: "message", counts_allocations: true, contestants, budgets }
}

/// P1 again, when publishing in batches.
fn batched() -> Row {
    Row {
        key: "batches",
        title: "P1 published in batches, each event built for it",
        scheduler: Scheduler::Workers(2),
        messages: 200_000,
        unit: "message",
        counts_allocations: true,
        contestants: vec![
            Contestant::new(BARE, |messages| twins::bare(Source::Fresh, 1, messages)),
            Contestant::new(BARE_BATCHED, |messages| twins::bare_batched(Source::Fresh, messages)),
            Contestant::new(OURS_BATCHED, |messages| ours::batched(SAME_BOUND, Source::Fresh, messages)),
        ],
        budgets: budget("P1", OURS_BATCHED, BARE, 1.0).into(),
    }
}

/// P3: bytes in, typed handler.
fn json() -> Row {
    const INLINE: &str = "from_slice + call in one loop, no queue";
    const CHANNEL: &str = "mpsc(1024) of bytes, from_slice + call";
    Row {
        key: "json",
        title: "P3 JSON bytes in, typed handler",
        scheduler: Scheduler::Current,
        messages: 100_000,
        unit: "message",
        counts_allocations: true,
        contestants: vec![
            Contestant::new(INLINE, twins::decode_inline),
            Contestant::new(CHANNEL, twins::decode_behind_channel),
            Contestant::new(OURS, ours::from_bytes),
        ],
        budgets: budget("P3", OURS, INLINE, 1.05).into_iter().chain(budget("P3", OURS, CHANNEL, 1.05)).collect(),
    }
}

/// P4: one event, a hundred subscriptions.
fn fan_out() -> Row {
    const CHANNELS: &str = "mpsc(1024) per subscriber, recv_many(64)";
    Row {
        key: "fan-out",
        title: "P4 one event to 100 subscriptions, per delivery",
        scheduler: Scheduler::Workers(2),
        messages: 4_000,
        unit: "delivery",
        counts_allocations: true,
        contestants: vec![Contestant::new(CHANNELS, twins::fan_out), Contestant::new(OURS_BATCHED, ours::fan_out)],
        budgets: budget("P4", OURS_BATCHED, CHANNELS, 0.15).into(),
    }
}

/// P5: duplicates recognised in memory.
fn idempotent() -> Row {
    const ONCE: &str = "abe-events, idempotent";
    Row {
        key: "idempotent",
        title: "P5 idempotent handler, each event built for it",
        scheduler: Scheduler::Workers(2),
        messages: 200_000,
        unit: "message",
        counts_allocations: true,
        contestants: vec![
            Contestant::new(BARE, |messages| twins::bare(Source::Fresh, 1, messages)),
            Contestant::new(OURS, |messages| ours::one_by_one(Handler::Plain, SAME_BOUND, Source::Fresh, 1, messages)),
            Contestant::new(ONCE, |messages| ours::one_by_one(Handler::Idempotent, SAME_BOUND, Source::Fresh, 1, messages)),
        ],
        budgets: budget("P5", ONCE, BARE, 1.3).into(),
    }
}

/// P5: eight lanes with handlers that are always ready.
fn concurrent() -> Row {
    const ONE: &str = "abe-events, concurrency 1";
    const EIGHT: &str = "abe-events, concurrency 8";
    Row {
        key: "concurrency",
        title: "P5 concurrency with ready handlers, each event built for it",
        scheduler: Scheduler::Workers(2),
        messages: 200_000,
        unit: "message",
        counts_allocations: true,
        contestants: vec![
            Contestant::new(ONE, |messages| ours::one_by_one(Handler::Plain, SAME_BOUND, Source::Fresh, 1, messages)),
            Contestant::new(EIGHT, |messages| ours::one_by_one(Handler::Concurrent, SAME_BOUND, Source::Fresh, 1, messages)),
        ],
        budgets: budget("P5", EIGHT, ONE, 1.6).into(),
    }
}

/// Four producers into one subscription.
fn producers() -> Row {
    Row {
        key: "producers",
        title: "four producers, one subscription, each event built for it",
        scheduler: Scheduler::Workers(2),
        messages: 200_000,
        unit: "message",
        counts_allocations: false,
        contestants: vec![
            Contestant::new(BARE, |messages| twins::bare(Source::Fresh, 4, messages)),
            Contestant::new(OURS, |messages| ours::one_by_one(Handler::Plain, SAME_BOUND, Source::Fresh, 4, messages)),
        ],
        budgets: budget("P1", OURS, BARE, 1.0).into(),
    }
}

/// A handler that computes must not run on its producer's core only.
fn heavy() -> Row {
    Row {
        key: "heavy",
        title: "producer and handler each compute for about 5 µs",
        scheduler: Scheduler::Workers(2),
        messages: 20_000,
        unit: "message",
        counts_allocations: false,
        contestants: vec![Contestant::new(BARE, twins::heavy), Contestant::new(OURS, ours::heavy)],
        budgets: vec![Budget { id: "P1", contestant: OURS, against: BARE, figure: Figure::Wall, at_most: 1.1 }],
    }
}

/// From publish to handler, when everything slept before.
fn wake_up() -> Row {
    Row {
        key: "wake-up",
        title: "wake-up from idle: median from publish to handler (wall), and CPU per message",
        scheduler: Scheduler::Workers(2),
        messages: 256,
        unit: "message",
        counts_allocations: false,
        contestants: vec![Contestant::new(BARE, twins::woken), Contestant::new(OURS, ours::woken)],
        budgets: vec![Budget { id: "P11", contestant: OURS, against: BARE, figure: Figure::Wall, at_most: 1.5 }],
    }
}
