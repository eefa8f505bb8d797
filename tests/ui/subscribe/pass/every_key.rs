use abe_events::{Batch, event, subscribe};

#[event(topic = "order", key = id)]
pub struct Order {
    id: u64,
}

fn key(order: &Order) -> u64 {
    order.id
}

/// Bills.
#[subscribe(
    name = "billing.bill", group = "shop", topics = ["order"], filter = |order| order.id > 0, filter_meta = |meta| meta.message().hops() == 0,
    headers("tenant" = "a", "kind" = ["x", "y"], "source", !"test"), batch = 50, max_wait = "5s", bytes = "1MiB",
    idempotent(key = key, window = "24h"), retry(attempts = 3, backoff = exponential, min = "1s", max = "1m", jitter), timeout = "none",
    concurrency = 4, ordered, when_full = shed, dead_letter = true, crate = ::abe_events
)]
async fn bill(_orders: Batch<Order>) {}

#[subscribe(idempotent = false, ordered = false, retry(jitter = false), dead_letter = false, bytes = 65536)]
async fn nothing(_orders: Batch<Order>) {}

fn main() {}
