//! Publishing: one script for all messages of a call, which stores them for everyone or for nobody.

use std::time::Duration;

use super::super::{Outgoing, PublishFailure, Published};
use super::read::fields_of;
use super::server::{Arg, Script};
use super::{Shared, reply};
use crate::error::{Error, ErrorKind, Result};

/// How many messages one call stores; the server does nothing else meanwhile.
const CALL_MAX: usize = 10_000;

/// How many bytes one call stores.
const CALL_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A time in microseconds, never less than it is.
pub(super) fn micros(time: Duration) -> u64 {
    // A script counts in doubles, which are exact up to 2^53: a century is enough.
    u64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX).min(100 * 365 * 24 * 3_600 * 1_000_000)
}

impl Shared {
    pub(super) async fn publish(&self, outgoing: Outgoing) -> Result<Published, PublishFailure> {
        let none = |error| PublishFailure { stored: 0, error };
        let messages = outgoing.messages.as_slice();
        // One that cannot be sent stops the call before anything is.
        let fields = messages.iter().map(fields_of).collect::<Result<Vec<_>>>().map_err(none)?;
        if fields.is_empty() {
            return Ok(Published::default());
        }
        let bytes = fields.iter().flatten().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if fields.len() > CALL_MAX || bytes > CALL_BYTES_MAX {
            let text = format!(
                "redis: {} messages of {bytes} bytes in one call; at most {CALL_MAX} of {CALL_BYTES_MAX} bytes are stored together",
                fields.len()
            );
            return Err(none(Error::new(ErrorKind::TooLarge, text)));
        }
        let mut arguments = vec![Arg::Text(&self.names.prefix), Arg::Number(micros(outgoing.delay)), Arg::Number(fields.len() as u64)];
        for (message, fields) in messages.iter().zip(&fields) {
            arguments.push(Arg::Text(message.topic().as_str()));
            arguments.push(Arg::Number(fields.len() as u64 * 2));
            for (name, value) in fields {
                arguments.push(Arg::Text(name));
                arguments.push(Arg::Bytes(value));
            }
        }
        let stored = self.run(Script::Publish, &arguments).await.map_err(|fault| none(fault.published()))?;
        let now = stored.get(1).cloned().unwrap_or_default();
        let usual = bytes / messages.len();
        for told in reply::list(stored.get(2)) {
            let [name, counts @ ..] = reply::list(Some(told)) else { continue };
            if let Some(live) = self.lives.get(&reply::text(name)) {
                live.weigh(usual);
                live.count(&[std::slice::from_ref(&now), counts].concat());
                live.more.notify_one();
            }
        }
        Ok(Published { deliveries: reply::number(stored.first()).max(0).cast_unsigned() })
    }
}
