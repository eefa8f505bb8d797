//! A broker around the memory broker that remembers what was published.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::memory::MemoryBroker;
use crate::broker::{Answer, Broker, Capabilities, Consumer, DeadLetters, Messages, Outgoing, PublishFailure, Published, SubscriptionSpec};
use crate::error::Result;
use crate::message::Message;

/// Remembers every message, with the number of deliveries it led to, and may publish messages twice.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) broker: Arc<MemoryBroker>,
    published: Arc<Mutex<Vec<Message>>>,
    /// Topics of messages that nobody took.
    unhandled: Arc<Mutex<Vec<String>>>,
    /// How many of the next messages are published twice.
    duplicate: AtomicU32,
}

impl Tap {
    pub(super) fn new() -> Self {
        Self { broker: Arc::new(MemoryBroker::new()), published: Arc::default(), unhandled: Arc::default(), duplicate: AtomicU32::new(0) }
    }

    pub(super) fn published(&self) -> Vec<Message> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn unhandled(&self) -> Vec<String> {
        self.unhandled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn duplicate(&self, messages: u32) {
        self.duplicate.fetch_add(messages, Ordering::Relaxed);
    }

    fn doubled(&self, messages: Messages) -> Messages {
        if self.duplicate.load(Ordering::Relaxed) == 0 {
            return messages;
        }
        let mut doubled = Vec::new();
        for message in messages.as_slice() {
            doubled.push(message.clone());
            if self.duplicate.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                doubled.push(message.clone());
            }
        }
        Messages::Many(doubled)
    }
}

impl Broker for Tap {
    fn capabilities(&self) -> &Capabilities {
        self.broker.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        self.broker.subscribe(spec)
    }

    fn publish(&self, mut outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        let mut messages = outgoing.messages.as_slice().to_vec();
        outgoing.messages = self.doubled(outgoing.messages);
        let (published, unhandled) = (self.published.clone(), self.unhandled.clone());
        Answer::later(async move {
            // Remembered before it is handed over: a handler may have run by the time the answer is here.
            let topics: Vec<String> = messages.iter().map(|message| message.topic().to_string()).collect();
            published.lock().unwrap_or_else(PoisonError::into_inner).append(&mut messages);
            let result = self.broker.publish(outgoing).await;
            if matches!(&result, Ok(stored) if stored.deliveries == 0) {
                unhandled.lock().unwrap_or_else(PoisonError::into_inner).extend(topics);
            }
            result
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.broker.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.broker.close()
    }
}
