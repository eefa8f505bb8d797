//! Injected faults, and what was seen: the test kit's [`Observer`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::broker::{Delivery, FailureKind};
use crate::handler::Ended;
use crate::message::Message;
use crate::runtime::Observer;

/// What is to go wrong, and what went on.
#[derive(Debug, Default)]
pub(super) struct Script(Mutex<Acts>);

#[derive(Debug, Default)]
struct Acts {
    /// By handler: how many attempts fail before the handler is called, and with what text.
    failures: HashMap<String, Vec<String>>,
    /// By handler: how many successes are lost before they are settled.
    crashes: HashMap<String, u32>,
    /// What ended, in order.
    ended: Vec<(String, Message, Ended)>,
}

impl Script {
    fn acts(&self) -> MutexGuard<'_, Acts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, handler: &str, times: u32, text: &str) {
        self.acts().failures.entry(handler.into()).or_default().extend((0..times).map(|_| text.to_owned()));
    }

    pub(super) fn crash(&self, handler: &str, times: u32) {
        *self.acts().crashes.entry(handler.into()).or_default() += times;
    }

    /// The messages of a handler that ended in a certain way.
    pub(super) fn ended(&self, handler: &str, how: impl Fn(&Ended) -> bool) -> Vec<Message> {
        let acts = self.acts();
        acts.ended.iter().filter(|(name, _, ended)| is(name, handler) && how(ended)).map(|(_, message, _)| message.clone()).collect()
    }

    /// Panics of handlers, as text.
    pub(super) fn panics(&self) -> Vec<String> {
        let acts = self.acts();
        let panics = acts.ended.iter().filter_map(|(name, message, ended)| match ended {
            Ended::Failed { kind: FailureKind::Panic, text, .. } => {
                Some(format!("handler `{name}` panicked on {} {}: {text}", message.topic(), message.id()))
            }
            _ => None,
        });
        panics.collect()
    }
}

/// Whether a subscription is the one meant: by its full name or the last part of it.
pub(super) fn is(subscription: &str, meant: &str) -> bool {
    subscription == meant.replace("::", ".") || subscription.rsplit('.').next() == Some(meant)
}

impl Observer for Script {
    fn before(&self, subscription: &str, _delivery: &Delivery) -> Option<Ended> {
        let mut acts = self.acts();
        let (_, texts) = acts.failures.iter_mut().find(|(handler, texts)| is(subscription, handler) && !texts.is_empty())?;
        let text = texts.remove(0);
        Some(Ended::failed(FailureKind::Error, text))
    }

    fn after(&self, subscription: &str, delivery: &Delivery, ended: Ended) -> Ended {
        let mut acts = self.acts();
        let crash = acts.crashes.iter_mut().find(|(handler, left)| is(subscription, handler) && **left > 0);
        let ended = match (ended, crash) {
            (Ended::Success, Some((_, left))) => {
                *left -= 1;
                Ended::failed(FailureKind::Crash, "the process died before the message was settled (injected)")
            }
            (ended, _) => ended,
        };
        acts.ended.push((subscription.to_owned(), delivery.message.clone(), ended.clone()));
        ended
    }
}
