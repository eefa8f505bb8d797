//! What becomes of deliveries: accepted when they come, settled when they end.
//!
//! What must not be forgotten is stored, and answered, before the server is told of an end.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subject};
use bytes::Bytes;
use futures_util::future::join_all;

use super::super::failures::failures_of;
use super::super::fate::{Came, Fate};
use super::super::seat::{self, Claimed};
use super::super::{Failure, FailureKind};
use super::Shared;
use super::ack::Ack;
use super::error::Fault;
use super::letters::bury;
use super::live::Live;
use super::note::{self, Note};
use super::read::Raw;
use super::record::Whose;
use super::server::millis;
use crate::message::Id;
use crate::mutant;

/// How long a message waits that could not be looked at.
const LATER: Duration = Duration::from_secs(1);

/// A delivery as the server knows it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) ack: Ack,
    reply: Subject,
    pub(super) attempt: u32,
    note: Option<Arc<(Note, u64)>>,
    pub(super) raw: Arc<Raw>,
    pub(super) id: Id,
}

impl seat::Held for Held {
    /// The server would take the word of one whose lease has ended.
    const ENDS_WITH_LEASE: bool = true;

    fn place(&self) -> i64 {
        self.ack.sequence.cast_signed()
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Held {
    /// What is known of the message after this delivery.
    fn note(&self, counted: bool, due_ms: u64, failures: Option<String>) -> Note {
        let before = self.note.as_ref().map(|note| note.0.failures.clone());
        Note {
            deliveries: self.ack.deliveries,
            attempts: if counted { self.attempt } else { self.attempt - 1 },
            due_ms,
            failures: failures.or(before).unwrap_or_default(),
        }
    }
}

impl Shared {
    /// What of that which came can be handed out, in its order.
    pub(super) async fn accept(&self, live: &Live, messages: Vec<Message>) -> Vec<Claimed<Held>> {
        let accepted = join_all(messages.into_iter().map(|message| self.accept_one(live, message))).await;
        accepted.into_iter().flatten().collect()
    }

    async fn accept_one(&self, live: &Live, message: Message) -> Option<Claimed<Held>> {
        let Message { subject, reply, payload, headers, .. } = message;
        let reply = reply?;
        let ack = Ack::parse(&reply)?;
        live.came(ack.sequence, ack.deliveries, payload.len());
        let raw = Arc::new(Raw::of(&self.names, &subject, headers, payload, ack.sequence, ack.time_ms));
        match self.examine(live, ack, &reply, raw).await {
            Ok(claimed) => claimed,
            Err(fault) => {
                // It stays with the server, which hands it out again.
                tracing::warn!(subscription = %live.place.name, sequence = ack.sequence, error = %fault.failed(), "a message could not be looked at");
                let _ = self.tell(&reply, nak(LATER)).await;
                live.waits(ack.sequence, LATER);
                None
            }
        }
    }

    /// The delivery, unless it is not the subscription's, not due, or cannot be read.
    async fn examine(&self, live: &Live, ack: Ack, reply: &Subject, raw: Arc<Raw>) -> Result<Option<Claimed<Held>>, Fault> {
        if !self.is_its(live, &raw).await? {
            self.tell(reply, Bytes::from_static(b"+ACK")).await?;
            return Ok(None);
        }
        let note = if ack.deliveries > 1 { note::find(&self.server, &self.names, &live.place, ack.sequence).await? } else { None };
        let attempt = Note::attempt(note.as_ref().map(|(note, _)| note), ack.deliveries);
        let attempt = if mutant::is("nats-attempt-uncounted") { 1 } else { attempt };
        let failures = note.as_ref().map(|(note, _)| note).filter(|note| !note.failures.is_empty()).map(|note| failures_of(&note.failures));
        let due_ms = raw.due_ms().max(note.as_ref().map_or(0, |(note, _)| note.due_ms));
        let read = raw.message().map_err(|error| raw.as_bytes().map(|message| (message, error)));
        let id = match &read {
            Ok(message) | Err(Ok((message, _))) => message.id().clone(),
            Err(Err(_)) => Id::new(),
        };
        let held = Held { ack, reply: reply.clone(), attempt, note: note.map(Arc::new), raw, id };
        if due_ms > held.raw.time_ms {
            let now_ms = self.clock.now(&self.server, &self.names).await?;
            if due_ms > now_ms {
                let after = Duration::from_millis(due_ms - now_ms);
                self.wait(live, &held, held.note(false, due_ms, None), after).await?;
                return Ok(None);
            }
        }
        match read {
            Ok(message) => Ok(Some(Claimed { held, message, failures })),
            Err(unreadable) => {
                let why = unreadable.map_or_else(|error| error.to_string(), |(_, error)| error.to_string());
                let failure = Failure::new(FailureKind::Undecodable, attempt, format_args!("this is no message: {why}"));
                let at_ms = millis(failure.at);
                bury(self, &live.place, &held, super::super::failures::failures_text(&[failure]), at_ms).await?;
                self.end(live, &held).await?;
                Ok(None)
            }
        }
    }

    /// Whether a message is meant for this subscription.
    async fn is_its(&self, live: &Live, raw: &Raw) -> Result<bool, Fault> {
        if let Some(address) = raw.address() {
            return Ok(address == live.place.address());
        }
        match live.table().whose(&raw.topic, raw.sequence) {
            Whose::Its => return Ok(true),
            Whose::Not => return Ok(false),
            Whose::Unsure if mutant::is("nats-topics-unchecked") => return Ok(false),
            Whose::Unsure => {}
        }
        if let Some((table, _)) = super::record::read(&self.server, &self.names, &live.place).await? {
            live.set_table(table);
        }
        // What is still unsure is not acked: it is looked at again.
        match live.table().whose(&raw.topic, raw.sequence) {
            Whose::Its => Ok(true),
            Whose::Not => Ok(false),
            Whose::Unsure => Err(Fault::Unsent("it is not known whose a message is")),
        }
    }

    /// Carries out what becomes of deliveries.
    pub(super) async fn settle(&self, live: &Live, items: Vec<(Held, Fate)>) -> Vec<Came> {
        join_all(items.into_iter().map(|(held, fate)| async move {
            match self.settle_one(live, &held, fate).await {
                Ok(()) => Came::Done,
                Err(fault) => Came::Failed(fault.failed()),
            }
        }))
        .await
    }

    async fn settle_one(&self, live: &Live, held: &Held, fate: Fate) -> Result<(), Fault> {
        match fate {
            Fate::Ack => self.end(live, held).await,
            Fate::Dead { failures, at_ms } if mutant::is("nats-bury-late") => {
                self.end(live, held).await?;
                bury(self, &live.place, held, failures, at_ms.cast_unsigned()).await
            }
            Fate::Dead { failures, at_ms } => {
                bury(self, &live.place, held, failures, at_ms.cast_unsigned()).await?;
                self.end(live, held).await
            }
            Fate::Retry { after, failures } => {
                let due_ms = self.due(after).await?;
                self.wait(live, held, held.note(true, due_ms, Some(failures)), after).await
            }
            // The server has counted it.
            Fate::Release { counted: true, after } => self.again(live, held, after).await,
            Fate::Release { counted: false, after } => {
                let due_ms = self.due(after).await?;
                self.wait(live, held, held.note(mutant::is("nats-release-counted"), due_ms, None), after).await
            }
        }
    }

    /// Gives back what nobody has got to see, in its order.
    pub(super) async fn give_back(&self, live: &Live, unseen: Vec<Held>) {
        let noted = join_all(unseen.iter().map(|held| async {
            let note = held.note(false, 0, None);
            note::write(&self.server, &self.names, &live.place, held.ack.sequence, &note).await
        }));
        for (held, noted) in unseen.iter().zip(noted.await) {
            // What cannot be noted or told comes again when its time is over.
            if noted.is_ok() {
                let _ = self.again(live, held, Duration::ZERO).await;
            }
        }
    }

    /// When a time has passed, by the server's clock.
    async fn due(&self, after: Duration) -> Result<u64, Fault> {
        if after.is_zero() {
            return Ok(0);
        }
        let now_ms = self.clock.now(&self.server, &self.names).await?;
        Ok(now_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Writes down what is known, and gives it back.
    async fn wait(&self, live: &Live, held: &Held, note: Note, after: Duration) -> Result<(), Fault> {
        note::write(&self.server, &self.names, &live.place, held.ack.sequence, &note).await?;
        self.again(live, held, after).await
    }

    async fn again(&self, live: &Live, held: &Held, after: Duration) -> Result<(), Fault> {
        self.tell(&held.reply, nak(after)).await?;
        live.waits(held.ack.sequence, after);
        Ok(())
    }

    /// The subscription has ended with the message.
    async fn end(&self, live: &Live, held: &Held) -> Result<(), Fault> {
        self.tell(&held.reply, Bytes::from_static(b"+ACK")).await?;
        live.ended();
        if let Some(note) = &held.note {
            // One that stays is of no use and does no harm.
            let _ = self.server.delete(&self.names.state, note.1).await;
        }
        Ok(())
    }

    /// Tells the server what becomes of a delivery, and waits until it knows.
    async fn tell(&self, reply: &Subject, word: Bytes) -> Result<(), Fault> {
        self.server.ask(reply.clone(), word).await.map(drop)
    }

    /// Asks the server for more time; whether it knows.
    pub(super) async fn prolong(&self, held: &Held) -> Result<(), Fault> {
        self.tell(&held.reply, Bytes::from_static(b"+WPI")).await
    }
}

fn nak(after: Duration) -> Bytes {
    if after.is_zero() {
        return Bytes::from_static(b"-NAK");
    }
    let nanos = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX);
    format!("-NAK {{\"delay\":{nanos}}}").into()
}
