//! Events and helpers that several files use.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abe_events::config::Config;
use abe_events::runtime::RuntimeBuilder;
use abe_events::{Runtime, event};

/// The usual event: an order with a key.
#[event(topic = "it.ordered", key = user)]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ordered {
    pub(crate) number: u32,
    pub(crate) user: u32,
}

impl Ordered {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, user: number % 16 }
    }
}

/// What handlers of a test write down, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, note: impl ToString) {
        self.0.lock().unwrap().push(note.to_string());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// How many handlers run at once, and at most so far.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU32,
    most: AtomicU32,
}

impl Gauge {
    pub(crate) fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn most(&self) -> u32 {
        self.most.load(Ordering::SeqCst)
    }
}

/// A runtime of its own, without file and environment.
pub(crate) fn builder() -> RuntimeBuilder {
    Runtime::builder().config(Config::default())
}

/// Waits until something holds; fails the test when it does not within a minute.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "not within a minute: {what}");
}
