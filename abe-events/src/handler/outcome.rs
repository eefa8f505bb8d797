//! What a handler may return, and what becomes of its message then.

use std::collections::BTreeMap;
use std::time::Duration;

use super::feed::Ended;
use super::payload::Many;
use crate::broker::FailureKind;
use crate::error::Classify;
use crate::event::{Event, EventDescriptor};
use crate::message::Message;
use crate::publisher::Publisher;

/// What becomes of a message, said by its handler.
///
/// ```
/// # use std::time::Duration;
/// # use abe_events::Outcome;
/// fn charge(limit_reached: bool, card_stolen: bool) -> Outcome {
///     match (limit_reached, card_stolen) {
///         (_, true) => Outcome::reject("card was reported stolen"),
///         (true, _) => Outcome::retry_after(Duration::from_secs(60)).because("gateway limit reached"),
///         _ => Outcome::ack(),
///     }
/// }
/// assert_eq!(charge(false, false), Outcome::ack());
/// ```
#[must_use = "an outcome says something only when the handler returns it"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome(Ended);

impl Outcome {
    /// Handled.
    pub fn ack() -> Self {
        Self(Ended::Success)
    }

    /// A failed attempt: comes again by the subscription's policy, and is a dead letter when its attempts are used up.
    pub fn retry() -> Self {
        Self(Ended::failed(FailureKind::Error, "the handler asked for another attempt"))
    }

    /// As [`Outcome::retry`], with a delay of its own instead of the policy's.
    pub fn retry_after(delay: Duration) -> Self {
        Self(Ended::Failed {
            kind: FailureKind::Error,
            text: format!("the handler asked for another attempt after {delay:?}"),
            after: Some(delay),
        })
    }

    /// A dead letter at once, with the reason.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self(Ended::Failed { kind: FailureKind::Rejected, text: reason.into(), after: None })
    }

    /// The same with a reason, which is kept with the message's failures; an ack has none.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        if let Ended::Failed { text, .. } = &mut self.0 {
            *text = reason.into();
        }
        self
    }

    pub(crate) fn of_error<E: Classify>(error: &E) -> Ended {
        let kind = if error.is_permanent() { FailureKind::Permanent } else { FailureKind::Error };
        Ended::failed(kind, error)
    }
}

/// What becomes of each event of a batch: one outcome for all, and others by index.
///
/// ```
/// use abe_events::{BatchOutcome, Outcome};
///
/// let outcome = BatchOutcome::others(Outcome::ack()).item(2, Outcome::reject("no such account")).item(5, Outcome::retry());
/// # let _ = outcome;
/// ```
#[must_use = "an outcome says something only when the handler returns it"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    others: Outcome,
    items: BTreeMap<usize, Outcome>,
}

impl BatchOutcome {
    /// Begins with what becomes of all events that are not named by [`BatchOutcome::item`].
    pub fn others(outcome: Outcome) -> Self {
        Self { others: outcome, items: BTreeMap::new() }
    }

    /// What becomes of the event at an index of the batch; said twice, the last holds.
    ///
    /// An index that the batch does not have fails the whole batch: silence would ack the event that was meant.
    pub fn item(mut self, index: usize, outcome: Outcome) -> Self {
        self.set(index, outcome);
        self
    }

    /// As [`BatchOutcome::item`], in a loop.
    pub fn set(&mut self, index: usize, outcome: Outcome) {
        self.items.insert(index, outcome);
    }
}

/// One outcome per event, in the batch's order; events beyond the last one are tried again.
impl FromIterator<Outcome> for BatchOutcome {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        Self {
            others: Outcome::retry().because("the handler gave no outcome for this event"),
            items: outcomes.into_iter().enumerate().collect(),
        }
    }
}

/// What an attempt came to, as far as the handler has a say in it.
#[derive(Debug)]
pub struct Reply {
    /// What becomes of all messages of the call.
    pub(crate) all: Ended,
    /// What becomes of single ones.
    pub(crate) each: BTreeMap<usize, Outcome>,
    /// What to publish before they are acked.
    pub(crate) publish: Vec<Message>,
}

impl Reply {
    pub(crate) fn new() -> Self {
        Self { all: Ended::Success, each: BTreeMap::new(), publish: Vec::new() }
    }

    /// Whether it is a plain ack, with nothing to publish before it.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.all, Ended::Success) && self.publish.is_empty()
    }

    /// How a single message ended; the reply is then as new.
    pub(crate) fn take(&mut self) -> Ended {
        self.publish.clear();
        std::mem::replace(&mut self.all, Ended::Success)
    }

    /// Whether every message of a call with so many succeeded.
    pub(crate) fn is_success(&self, count: usize) -> bool {
        (0..count).all(|index| *self.each.get(&index).map_or(&self.all, |outcome| &outcome.0) == Ended::Success)
    }

    /// How the message of a batch at an index ended.
    pub(crate) fn of_item(&mut self, index: usize) -> Ended {
        match self.each.remove(&index) {
            Some(outcome) => outcome.0,
            None => self.all.clone(),
        }
    }

    /// The attempt failed for all its messages, whatever was said of single ones.
    pub(crate) fn fail(&mut self, ended: Ended) {
        self.all = ended;
        self.each.clear();
        self.publish.clear();
    }

    /// What was returned could not be published: what would have been acked is tried again.
    pub(crate) fn fail_successes(&mut self, ended: &Ended) {
        let replace = |was: &mut Ended| {
            if *was == Ended::Success {
                *was = ended.clone();
            }
        };
        replace(&mut self.all);
        self.each.values_mut().for_each(|outcome| replace(&mut outcome.0));
    }

    fn emit<T: Event>(&mut self, event: T, publisher: &Publisher) {
        match publisher.message(event) {
            Ok(message) => self.publish.push(message),
            Err(error) => self.fail_successes(&Ended::failed(FailureKind::Publish, error)),
        }
    }
}

/// What a handler may return: `()`, [`Outcome`], with a [`Batch`](super::Batch) [`BatchOutcome`], events to publish, or a
/// `Result` of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an outcome of a `#[subscribe]` handler",
    label = "a handler cannot return this",
    note = "return `()`, `Outcome`, an event or several (tuple, `Option`, `Vec`), with `Batch<T>` also `BatchOutcome`, or a `Result` of these",
    note = "of a `Result`, the error is `abe_events::Error`, which takes any error by `?`, or a type with `impl abe_events::Classify for MyError {{}}`"
)]
pub trait IntoOutcome<F>: Send {
    /// The contracts it may publish.
    fn publishes() -> Vec<&'static EventDescriptor>;

    /// Says what becomes of the messages, and what is to be published.
    #[doc(hidden)]
    fn settle(self, reply: &mut Reply, publisher: &Publisher);
}

impl<F> IntoOutcome<F> for () {
    fn publishes() -> Vec<&'static EventDescriptor> {
        Vec::new()
    }

    fn settle(self, _: &mut Reply, _: &Publisher) {}
}

impl<F> IntoOutcome<F> for Outcome {
    fn publishes() -> Vec<&'static EventDescriptor> {
        Vec::new()
    }

    fn settle(self, reply: &mut Reply, _: &Publisher) {
        reply.all = self.0;
    }
}

impl IntoOutcome<Many> for BatchOutcome {
    fn publishes() -> Vec<&'static EventDescriptor> {
        Vec::new()
    }

    fn settle(self, reply: &mut Reply, _: &Publisher) {
        reply.all = self.others.0;
        reply.each = self.items;
    }
}

#[diagnostic::do_not_recommend]
impl<F, T: Event> IntoOutcome<F> for T {
    fn publishes() -> Vec<&'static EventDescriptor> {
        vec![T::DESCRIPTOR]
    }

    fn settle(self, reply: &mut Reply, publisher: &Publisher) {
        reply.emit(self, publisher);
    }
}

impl<F, T: Event> IntoOutcome<F> for Option<T> {
    fn publishes() -> Vec<&'static EventDescriptor> {
        vec![T::DESCRIPTOR]
    }

    fn settle(self, reply: &mut Reply, publisher: &Publisher) {
        if let Some(event) = self {
            reply.emit(event, publisher);
        }
    }
}

impl<F, T: Event> IntoOutcome<F> for Vec<T> {
    fn publishes() -> Vec<&'static EventDescriptor> {
        vec![T::DESCRIPTOR]
    }

    fn settle(self, reply: &mut Reply, publisher: &Publisher) {
        reply.publish.reserve(self.len());
        self.into_iter().for_each(|event| reply.emit(event, publisher));
    }
}

impl<F, R: IntoOutcome<F>, E: Classify + Send> IntoOutcome<F> for Result<R, E> {
    fn publishes() -> Vec<&'static EventDescriptor> {
        R::publishes()
    }

    fn settle(self, reply: &mut Reply, publisher: &Publisher) {
        match self {
            Ok(outcome) => outcome.settle(reply, publisher),
            Err(error) => reply.all = Outcome::of_error(&error),
        }
    }
}

macro_rules! tuples {
    ($($event:ident)+) => {
        impl<F, $($event: Event),+> IntoOutcome<F> for ($($event,)+) {
            fn publishes() -> Vec<&'static EventDescriptor> {
                vec![$($event::DESCRIPTOR),+]
            }

            #[expect(non_snake_case, reason = "one name for a type and its value")]
            fn settle(self, reply: &mut Reply, publisher: &Publisher) {
                let ($($event,)+) = self;
                $(reply.emit($event, publisher);)+
            }
        }
    };
}

tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E G);
