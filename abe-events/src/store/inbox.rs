//! The durable record of an idempotent subscription: absent, in progress under a lease, applied.
//!
//! Not atomic with what the handler does elsewhere: a process that dies between an effect and its record leaves the effect
//! to be repeated. Only a transaction with the handler's own writes is ([`StoreTransactions`](super::StoreTransactions)).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{Database, Held, Store, key_bytes};
use crate::broker::Answer;
use crate::error::Result;
use crate::handler::{InboxKey, Reservation};
use crate::inbox::Inbox;

/// The record of one subscription in a database.
pub(crate) struct StoreInbox(Arc<Inner>);

struct Inner {
    database: Arc<dyn Database>,
    subscriber: i64,
    name: String,
    window: Duration,
    lease: Duration,
    /// What this process has reserved. Never held over a wait.
    running: Mutex<HashMap<InboxKey, Running, RandomState>>,
}

#[derive(Clone, Copy)]
struct Running {
    token: i64,
    /// How it ended, when the database could not be told yet.
    ended: Option<bool>,
}

impl StoreInbox {
    pub(crate) async fn open(store: &Store, group: &str, name: &str, window: Duration, lease: Duration) -> Result<Self> {
        let subscriber = store.database.subscriber(group.to_owned(), name.to_owned()).await?;
        let inner = Arc::new(Inner {
            database: store.database.clone(),
            subscriber,
            name: name.to_owned(),
            window,
            lease,
            running: Mutex::default(),
        });
        tokio::spawn(keep(Arc::downgrade(&inner), lease / 3));
        Ok(Self(inner))
    }
}

/// Prolongs what runs and records what could not be recorded, as long as the inbox is there.
async fn keep(inbox: Weak<Inner>, period: Duration) {
    loop {
        tokio::time::sleep(period.mul_f64(0.8 + 0.2 * fastrand::f64())).await;
        let Some(inbox) = inbox.upgrade() else { return };
        inbox.keep().await;
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<InboxKey, Running, RandomState>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reserve(&self, key: &InboxKey) -> Result<Reservation> {
        let token = fastrand::i64(1..i64::MAX);
        match self.running().entry(key.clone()) {
            Entry::Occupied(_) => return Ok(Reservation::Busy),
            Entry::Vacant(vacant) => {
                vacant.insert(Running { token, ended: None });
            }
        }
        // Dropped half-way, the key must not stay reserved here; what the database has ends with its lease.
        let mut guard = Forget { inbox: self, key: Some(key) };
        let answer = self.database.reserve(self.subscriber, Held { key: key_bytes(key), token }, self.lease).await;
        if matches!(answer, Ok(Reservation::Reserved)) {
            guard.key = None;
        }
        answer
    }

    async fn finish(&self, mut keys: Vec<(InboxKey, bool)>) -> Result<Vec<(InboxKey, bool)>> {
        let (mut applied, mut released) = (Vec::new(), Vec::new());
        {
            let running = self.running();
            for (key, is_applied) in &keys {
                let Some(of) = running.get(key) else { continue };
                let list = if *is_applied { &mut applied } else { &mut released };
                list.push(Held { key: key_bytes(key), token: of.token });
            }
        }
        let ended = self.tell(applied, released).await;
        let mut running = self.running();
        for (key, is_applied) in keys.drain(..) {
            match (&ended, running.get_mut(&key)) {
                // Kept, prolonged and told again: until then no duplicate runs here or elsewhere.
                (Err(_), Some(of)) => of.ended = Some(is_applied),
                _ => {
                    running.remove(&key);
                }
            }
        }
        drop(running);
        ended.map(|()| keys)
    }

    async fn tell(&self, applied: Vec<Held>, released: Vec<Held>) -> Result<()> {
        if !applied.is_empty() {
            let count = applied.len() as u64;
            let recorded = self.database.record(self.subscriber, applied, self.window).await?;
            if recorded < count {
                let lost = count - recorded;
                tracing::warn!(handler = self.name, lost, "reservations had ended before their handlers: the messages may have run twice");
            }
        }
        if released.is_empty() { Ok(()) } else { self.database.release(self.subscriber, released).await }
    }

    async fn keep(&self) {
        let all: Vec<(InboxKey, Running)> = self.running().iter().map(|(key, of)| (key.clone(), *of)).collect();
        let held = |ended: Option<bool>| -> Vec<Held> {
            let of = all.iter().filter(|(_, of)| of.ended == ended);
            of.map(|(key, of)| Held { key: key_bytes(key), token: of.token }).collect()
        };
        let running = held(None);
        if !running.is_empty()
            && let Err(error) = self.database.renew(self.subscriber, running, self.lease).await
        {
            tracing::warn!(handler = self.name, %error, "reservations were not renewed; tried again before they end");
        }
        let (applied, released) = (held(Some(true)), held(Some(false)));
        if applied.is_empty() && released.is_empty() {
            return;
        }
        match self.tell(applied, released).await {
            Ok(()) => {
                let mut running = self.running();
                for (key, _) in all.iter().filter(|(_, of)| of.ended.is_some()) {
                    running.remove(key);
                }
            }
            Err(error) => tracing::warn!(handler = self.name, %error, "the inbox did not record what was applied; tried again"),
        }
    }
}

/// Forgets a reservation that was not made.
struct Forget<'a> {
    inbox: &'a Inner,
    key: Option<&'a InboxKey>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.inbox.running().remove(key);
        }
    }
}

impl Inbox for StoreInbox {
    fn reserve<'a>(&'a self, key: &'a InboxKey) -> Answer<'a, Result<Reservation>> {
        Answer::later(self.0.reserve(key))
    }

    fn finish(&self, keys: Vec<(InboxKey, bool)>) -> Answer<'_, Result<Vec<(InboxKey, bool)>>> {
        Answer::later(self.0.finish(keys))
    }
}

impl fmt::Debug for StoreInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreInbox").field("name", &self.0.name).field("window", &self.0.window).finish_non_exhaustive()
    }
}
