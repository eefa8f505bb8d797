//! What the cases of all databases share.
#![allow(dead_code, reason = "a build may have no database")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abe_events::config::Config;
use abe_events::{Runtime, RuntimeBuilder, event};

/// The usual event: money that is to be moved.
#[event(topic = "store.paid", key = account)]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Paid {
    pub(crate) number: i64,
    pub(crate) account: i64,
}

impl Paid {
    pub(crate) fn new(number: i64) -> Self {
        Self { number, account: number % 4 }
    }
}

/// What follows from it.
#[event(topic = "store.booked", key = account)]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Booked {
    pub(crate) number: i64,
    pub(crate) account: i64,
}

/// What a test's handlers write down, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, note: impl ToString) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note.to_string());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }
}

/// A number that handlers change.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU32);

impl Count {
    /// Adds one, and answers what it is now.
    pub(crate) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A runtime of its own, without file and environment.
pub(crate) fn builder() -> RuntimeBuilder {
    Runtime::builder().config(Config::default())
}

/// Waits until something holds; fails the test when it does not within a minute.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "not within a minute: {what}");
}

/// A SQLite file for a broker, removed at the end.
pub(crate) struct File {
    folder: std::path::PathBuf,
    pub(crate) url: String,
}

impl File {
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("abe-events-broker-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let url = format!("sqlite://{}", folder.join("broker.db").display());
        cfg!(feature = "sqlite").then_some(Self { folder, url })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
