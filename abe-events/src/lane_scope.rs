//! Which lane's handler is running on this thread, and of which message, so that a publish made by it is known as such,
//! whatever handle it uses.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::broker::Origin;
use crate::message::{Cause, Lineage, Message};
use crate::mutant;

thread_local! {
    static CURRENT: Cell<Option<Origin>> = const { Cell::new(None) };
    /// Never borrowed while user code runs.
    static CAUSE: RefCell<Option<Cause>> = const { RefCell::new(None) };
}

/// The lane whose handler is being polled on this thread.
pub(crate) fn current() -> Option<Origin> {
    CURRENT.with(Cell::get)
}

/// Where a handler's code runs: a lane, and the message it is about.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    origin: Option<Origin>,
    cause: Option<Cause>,
}

impl Scope {
    /// User code of a lane, of no message yet.
    #[inline]
    pub(crate) fn of(origin: Origin) -> Self {
        Self { origin: Some(origin), cause: None }
    }

    /// The scope of this thread, to be entered on another.
    pub(crate) fn here() -> Self {
        Self { origin: current(), cause: cause() }
    }

    /// Enters it, and answers the scope that was left.
    #[inline]
    pub(crate) fn enter(self) -> Self {
        let origin = CURRENT.with(|current| current.replace(self.origin));
        Self { origin, cause: swap(self.cause) }
    }
}

/// User code is about to run because of this message. Called for every message: it copies an id and a topic, and counts up
/// where those, or the chain behind them, are shared.
#[inline]
pub(crate) fn runs_for(message: &Message) {
    if !mutant::is("cause-unseen") {
        swap(Some(message.as_cause()));
    }
}

/// The lineage of what is published here, if a handler's code publishes it.
#[inline]
pub(crate) fn lineage() -> Option<Arc<Lineage>> {
    current()?;
    cause().map(Lineage::of)
}

fn cause() -> Option<Cause> {
    CAUSE.try_with(|cause| cause.borrow().clone()).ok().flatten()
}

/// What stood there is dropped by the caller, when nothing is borrowed any more. A thread that ends has no scope.
#[inline]
fn swap(cause: Option<Cause>) -> Option<Cause> {
    CAUSE.try_with(|place| place.replace(cause)).ok().flatten()
}
