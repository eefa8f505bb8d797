//! Which lane's handler is running on this thread, so that a publish made by it is known as such, whatever handle it uses.

use std::cell::Cell;

use crate::broker::Origin;

thread_local! {
    static CURRENT: Cell<Option<Origin>> = const { Cell::new(None) };
}

/// The lane whose handler is being polled on this thread.
pub(crate) fn current() -> Option<Origin> {
    CURRENT.with(Cell::get)
}

/// Sets it, and answers what it was.
pub(crate) fn replace(origin: Option<Origin>) -> Option<Origin> {
    CURRENT.with(|current| current.replace(origin))
}
