//! State by type: given to the builder, looked up once at start, so that what is missing is a start error.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The states a runtime was given, by type.
#[derive(Default, Clone)]
pub struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    /// Adds a state; `false` when one of this type was there before, which stays.
    pub fn insert<S: Send + Sync + 'static>(&mut self, state: Arc<S>) -> bool {
        if self.0.contains_key(&TypeId::of::<S>()) {
            return false;
        }
        self.0.insert(TypeId::of::<S>(), state);
        true
    }

    /// The state of a type.
    pub fn get<S: Send + Sync + 'static>(&self) -> Option<Arc<S>> {
        self.0.get(&TypeId::of::<S>()).and_then(|state| state.clone().downcast().ok())
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "States({})", self.0.len())
    }
}

/// Looks things up for one handler at start, and notes what is missing.
#[derive(Debug)]
pub struct Resolver<'a> {
    states: &'a States,
    missing: Vec<String>,
    transaction: bool,
}

impl<'a> Resolver<'a> {
    /// A resolver over the runtime's states.
    pub fn new(states: &'a States) -> Self {
        Self { states, missing: Vec::new(), transaction: false }
    }

    /// The state of a type, noted as missing if it is not there.
    pub fn state<S: Send + Sync + 'static>(&mut self) -> Option<Arc<S>> {
        let found = self.states.get();
        if found.is_none() {
            self.missing
                .push(format!("state `{0}` was not given; call `.state(..)` with a `{0}` on `Runtime::builder()`", type_name::<S>()));
        }
        found
    }

    /// The state of a type, if it is there.
    pub fn optional_state<S: Send + Sync + 'static>(&self) -> Option<Arc<S>> {
        self.states.get()
    }

    /// Notes something else that an extractor of the user's own cannot do without.
    pub fn note_missing(&mut self, what: impl Into<String>) {
        self.missing.push(what.into());
    }

    /// Says that every call of the handler is to be within a transaction.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn need_transaction(&mut self) {
        self.transaction = true;
    }

    /// Whether every call of the handler is to be within a transaction.
    pub(crate) fn needs_transaction(&self) -> bool {
        self.transaction
    }

    /// Looks something up without noting what is missing.
    pub(crate) fn quietly<T>(&mut self, look_up: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let noted = self.missing.len();
        let found = look_up(self);
        self.missing.truncate(noted);
        found
    }

    /// What was missing, each with its cure.
    pub fn into_missing(self) -> Vec<String> {
        self.missing
    }
}
