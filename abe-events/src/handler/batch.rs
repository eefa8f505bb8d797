//! Several events for one call: [`Batch`].

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::message::Message;

/// Events for one call of a handler, in the order they came; never empty.
///
/// It is a slice of `Arc<T>`, and iterates over `&T`.
///
/// ```
/// # use std::sync::Arc;
/// # use abe_events::Batch;
/// fn total(amounts: &Batch<u64>) -> u64 {
///     amounts.iter().sum()
/// }
/// let batch: Batch<u64> = [3, 4].into_iter().map(Arc::new).collect();
/// assert_eq!((total(&batch), batch.len(), *batch[1]), (7, 2, 4));
/// ```
pub struct Batch<T> {
    items: Vec<Arc<T>>,
    messages: Vec<Message>,
}

impl<T> Batch<T> {
    pub(crate) fn new(items: Vec<Arc<T>>, messages: Vec<Message>) -> Self {
        Self { items, messages }
    }

    /// The events, by reference.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self.items.iter())
    }

    /// The messages the events came in, in the same order; empty for a batch that a test collected from values.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The events, shared, without their messages.
    pub fn into_vec(self) -> Vec<Arc<T>> {
        self.items
    }
}

impl<T> Deref for Batch<T> {
    type Target = [Arc<T>];

    fn deref(&self) -> &[Arc<T>] {
        &self.items
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = Arc<T>;
    type IntoIter = std::vec::IntoIter<Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

/// For tests of a handler's function, which stays callable.
impl<T> FromIterator<Arc<T>> for Batch<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Self {
        Self { items: items.into_iter().collect(), messages: Vec::new() }
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The number only: a batch may be large, and its events may hold what must not reach a log.
        write!(f, "Batch({} events)", self.items.len())
    }
}

/// The events of a [`Batch`], by reference.
#[derive(Debug)]
pub struct Iter<'a, T>(std::slice::Iter<'a, Arc<T>>);

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.0.next().map(|item| &**item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

impl<T> DoubleEndedIterator for Iter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|item| &**item)
    }
}
