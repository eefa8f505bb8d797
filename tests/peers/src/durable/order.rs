//! The payload, and the handler's own work, the same for every contestant.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abe_events::{data, event};

/// A customer placed an order.
#[event(topic = "order.created")]
#[derive(Clone)]
pub struct OrderCreated {
    pub id: String,
    pub user_id: u64,
    pub amount: f64,
    pub items: Vec<Item>,
    pub timestamp: String,
}

/// What was ordered.
#[data]
#[derive(Clone)]
pub struct Item {
    pub sku: String,
    pub quantity: u32,
    pub price: f64,
}

/// How many are published with one call.
pub const AT_ONCE: u64 = 1_000;

/// Orders, in the groups in which they are published.
pub fn groups(messages: u64) -> impl Iterator<Item = Vec<OrderCreated>> {
    (0..messages).step_by(AT_ONCE as usize).map(move |first| (first..messages.min(first + AT_ONCE)).map(order).collect())
}

fn order(number: u64) -> OrderCreated {
    OrderCreated {
        id: format!("ord-{number:08}"),
        user_id: number % 10_000,
        amount: 129.95,
        items: vec![
            Item { sku: "ABE-1200".to_owned(), quantity: 2, price: 49.95 },
            Item { sku: "ABE-77".to_owned(), quantity: 1, price: 30.05 },
        ],
        timestamp: "2026-03-09T15:04:05.123Z".to_owned(),
    }
}

static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// What every handler does with an order.
pub fn arrived(order: &OrderCreated) {
    black_box(order.amount);
    ARRIVED.fetch_add(1, Ordering::Relaxed);
}

/// Begins a count.
pub fn nothing_arrived() {
    ARRIVED.store(0, Ordering::Relaxed);
}

/// Waits until so many have been handled.
///
/// # Panics
///
/// When they are not within three minutes.
pub async fn until_arrived(messages: u64) {
    let all = async {
        while ARRIVED.load(Ordering::Relaxed) < messages {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(180), all).await.is_err() {
        panic!("{} of {messages} were handled in three minutes", ARRIVED.load(Ordering::Relaxed));
    }
}
