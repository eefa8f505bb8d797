//! A broker whose events and fates are written down.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{LogStatus, NewCount, NewEvent, NewFate};
use crate::broker::{
    Answer, Broker, Capabilities, Consumer, ConsumerId, DeadLetters, Delivery, Depth, Outgoing, PublishFailure, Published, Settled,
    Settlement, SubscriptionSpec, Token, Verdict,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::store::group::Group;
use crate::store::{Database, Store};

/// What all parts of a logged broker write with.
struct Log {
    database: Arc<dyn Database>,
    events: Group<NewEvent>,
    counts: Group<NewCount>,
}

/// Any broker, with a log beside it. It hides the broker's shorter way for lanes of its own process: that would pass the log by.
pub(crate) struct LoggedBroker {
    inner: Arc<dyn Broker>,
    log: Arc<Log>,
}

impl LoggedBroker {
    pub(crate) fn new(inner: Arc<dyn Broker>, store: &Store) -> Self {
        let log = Log { database: store.database.clone(), events: Group::new(), counts: Group::new() };
        Self { inner, log: Arc::new(log) }
    }

    async fn publish_logged(&self, outgoing: Outgoing) -> Result<Published, PublishFailure> {
        let messages = outgoing.messages.as_slice();
        let alike = messages.windows(2).all(|pair| pair[0].topic() == pair[1].topic());
        let events = messages.iter().map(|message| NewEvent::of(message, outgoing.delay)).collect::<Result<Vec<NewEvent>>>();
        let events = events.map_err(|error| PublishFailure { stored: 0, error })?;
        let ids: Vec<String> = events.iter().map(|event| event.row.id.clone()).collect();
        let written = self.log.events.add(events, |events| self.log.database.log_events(events)).await;
        written.map_err(|error| PublishFailure { stored: 0, error: not_written(&error) })?;
        match self.inner.publish(outgoing).await {
            Ok(published) => {
                if alike && let Some(each) = published.deliveries.checked_div(ids.len() as u64) {
                    let deliveries = i64::try_from(each).unwrap_or(i64::MAX);
                    let counts = ids.into_iter().map(|id| NewCount { id, deliveries }).collect();
                    if let Err(error) = self.log.counts.add(counts, |counts| self.log.database.log_counts(counts)).await {
                        tracing::warn!(%error, "the event log did not note how many subscriptions took an event");
                    }
                }
                Ok(published)
            }
            Err(failure) => {
                if is_certain(failure.error.kind()) {
                    let absent = ids.into_iter().skip(failure.stored).collect();
                    if let Err(error) = self.log.database.log_withdraw(absent).await {
                        tracing::warn!(%error, "the event log shows events as pending that were refused");
                    }
                }
                Err(failure)
            }
        }
    }
}

/// Whether a publish that failed so has certainly stored nothing more.
fn is_certain(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::Unknown | ErrorKind::Timeout | ErrorKind::Broker | ErrorKind::Other)
}

/// Whatever the log's database did: the broker was not asked.
fn not_written(error: &Error) -> Error {
    Error::new(ErrorKind::NotStored, format!("not written to the event log, and so not published: {error}"))
}

impl Broker for LoggedBroker {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        Answer::later(async move {
            let (group, name) = (spec.group.as_str().to_owned(), spec.name.as_str().to_owned());
            let subscriber = self.log.database.subscriber(group, name).await.map_err(|error| error.context("asking the event log"))?;
            let inner = self.inner.subscribe(spec).await?;
            let name = spec.name.as_str().to_owned();
            Ok(Arc::new(LoggedConsumer { inner, log: self.log.clone(), subscriber, name }) as Arc<dyn Consumer>)
        })
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        Answer::later(self.publish_logged(outgoing))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

impl fmt::Debug for LoggedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoggedBroker").field(&self.inner).finish()
    }
}

/// Its consumers.
struct LoggedConsumer {
    inner: Arc<dyn Consumer>,
    log: Arc<Log>,
    subscriber: i64,
    name: String,
}

impl LoggedConsumer {
    /// Writes down what becomes of deliveries, before it does.
    async fn note(&self, fates: Vec<NewFate>, messages: Vec<Message>) -> Result<()> {
        let database = &self.log.database;
        if database.log_fates(self.subscriber, fates.clone()).await? {
            return Ok(());
        }
        // Published by somebody who keeps no log.
        let events = messages.iter().map(|message| NewEvent::of(message, Duration::ZERO)).collect::<Result<Vec<NewEvent>>>()?;
        self.log.events.add(events, |events| database.log_events(events)).await?;
        database.log_fates(self.subscriber, fates).await.map(drop)
    }

    async fn settle_logged(&self, settlements: Vec<Settlement>) -> Settled {
        // Of one that stands there twice, the last counts.
        let fates: HashMap<String, (NewFate, Message)> = settlements
            .iter()
            .filter_map(|settlement| Some((fate_of(settlement)?, settlement.delivery.message.clone())))
            .map(|(fate, message)| (fate.id.clone(), (fate, message)))
            .collect();
        if !fates.is_empty() {
            let (fates, messages) = fates.into_values().unzip();
            // Verdicts are not held up by a log: what it misses is told, and the broker knows better.
            if let Err(error) = self.note(fates, messages).await {
                tracing::error!(handler = self.name, %error, "the event log does not know what became of some events");
            }
        }
        self.inner.settle(settlements).await
    }
}

fn fate_of(settlement: &Settlement) -> Option<NewFate> {
    let Settlement { delivery, verdict } = settlement;
    let (status, retries, error) = match verdict {
        Verdict::Ack => (LogStatus::Processed, delivery.attempt.saturating_sub(1), None),
        Verdict::Retry { failure, .. } => (LogStatus::Pending, delivery.attempt, Some(failure)),
        Verdict::DeadLetter { failure } => (LogStatus::Failed, delivery.attempt, Some(failure)),
        Verdict::Release { .. } => return None,
    };
    // Databases end a text where a NUL stands, or refuse it.
    let error = error.map(|failure| failure.text.replace('\0', "\\0"));
    Some(NewFate { id: delivery.message.id().to_string(), status, retries, error })
}

impl Consumer for LoggedConsumer {
    fn id(&self) -> ConsumerId {
        self.inner.id()
    }

    fn receive(&self, lane: u32, max: usize, into: Vec<Delivery>) -> Answer<'_, Result<Vec<Delivery>>> {
        self.inner.receive(lane, max, into)
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Settled> {
        Answer::later(self.settle_logged(settlements))
    }

    fn renew<'a>(&'a self, tokens: &'a [Token]) -> Answer<'a, Result<Vec<Token>>> {
        self.inner.renew(tokens)
    }

    fn depth(&self) -> Depth {
        self.inner.depth()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

impl fmt::Debug for LoggedConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoggedConsumer").field(&self.inner).finish()
    }
}
