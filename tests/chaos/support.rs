//! What every part uses: errors, the clock that processes share, and words for the terminal.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Nanoseconds since 1970 by the machine's clock, which all processes share.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A line for whoever started this.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
