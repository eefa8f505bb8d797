//! Which lane's handler is running on this thread, and of which message, so that a publish made by it is known as such,
//! whatever handle it uses.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::broker::Origin;
use crate::message::{Cause, Lineage, Message, PlainCause};
use crate::mutant;

thread_local! {
    static CURRENT: Cell<Option<Origin>> = const { Cell::new(None) };
    static CAUSE: Cell<Noted> = const { Cell::new(Noted::Nothing) };
    /// The cause where it is [`Noted::Shared`]. Never borrowed while user code runs.
    static SHARED: RefCell<Option<Box<Cause>>> = const { RefCell::new(None) };
}

/// Which message user code runs for. It is noted for every message, and few of them cause anything: what most of them are is
/// copied, and only what counts its owners stands elsewhere.
#[derive(Debug, Clone, Copy, Default)]
enum Noted {
    #[default]
    Nothing,
    Plain(PlainCause),
    Shared,
}

/// The lane whose handler is being polled on this thread.
pub(crate) fn current() -> Option<Origin> {
    CURRENT.with(Cell::get)
}

/// Where a handler's code runs: a lane, and the message it is about.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    origin: Option<Origin>,
    cause: Noted,
    shared: Option<Box<Cause>>,
}

impl Scope {
    /// User code of a lane, of no message yet.
    #[inline]
    pub(crate) fn of(origin: Origin) -> Self {
        Self { origin: Some(origin), ..Self::default() }
    }

    /// The scope of this thread, to be entered on another.
    pub(crate) fn here() -> Self {
        let shared = || SHARED.try_with(|shared| shared.borrow().clone()).ok().flatten();
        let cause = CAUSE.get();
        Self { origin: current(), cause, shared: if matches!(cause, Noted::Shared) { shared() } else { None } }
    }

    /// Enters it, and answers the scope that was left.
    #[inline]
    pub(crate) fn enter(self) -> Self {
        let origin = CURRENT.replace(self.origin);
        let cause = CAUSE.replace(self.cause);
        let shared = if self.shared.is_some() || matches!(cause, Noted::Shared) { swap(self.shared) } else { None };
        Self { origin, cause, shared }
    }
}

/// User code is about to run because of this message.
#[inline]
pub(crate) fn runs_for(message: &Message) {
    if mutant::is("cause-unseen") {
        return;
    }
    if let Some(plain) = message.as_plain_cause()
        && !matches!(CAUSE.get(), Noted::Shared)
    {
        CAUSE.set(Noted::Plain(plain));
    } else {
        runs_for_shared(message);
    }
}

/// The same where something is counted, or was.
#[cold]
fn runs_for_shared(message: &Message) {
    match message.as_plain_cause() {
        Some(plain) => {
            CAUSE.set(Noted::Plain(plain));
            swap(None);
        }
        None => {
            CAUSE.set(Noted::Shared);
            swap(Some(Box::new(message.as_cause())));
        }
    }
}

/// The lineage of what is published here, if a handler's code publishes it.
#[inline]
pub(crate) fn lineage() -> Option<Arc<Lineage>> {
    current()?;
    cause().map(Lineage::of)
}

fn cause() -> Option<Cause> {
    match CAUSE.get() {
        Noted::Nothing => None,
        Noted::Plain(plain) => Some(plain.into()),
        Noted::Shared => SHARED.try_with(|shared| shared.borrow().as_deref().cloned()).ok().flatten(),
    }
}

/// What stood there is dropped by the caller, when nothing is borrowed any more. A thread that ends has no scope.
fn swap(cause: Option<Box<Cause>>) -> Option<Box<Cause>> {
    SHARED.try_with(|shared| shared.replace(cause)).ok().flatten()
}
