//! Every key there is, as two tables: what it is called, what it takes, and where its value goes.

use std::time::Duration;

use super::Config;
use super::duration::parse_ms;
use super::tree::Scalar;
use crate::policy::{Backoff, PolicyPatch, WhenFull};
use crate::topic::Name;

/// A key that takes a value. `path` has dots where a file nests and a variable has `__`.
pub(super) struct Key<T: 'static> {
    pub(super) path: &'static str,
    /// What is allowed, for messages.
    pub(super) expected: &'static str,
    /// Puts the value where it belongs; `None` when it is not allowed.
    pub(super) set: fn(&mut T, &Scalar) -> Option<()>,
}

/// The sections under `event` that have tables of their own.
pub(super) const SECTIONS: [&str; 2] = ["defaults", "handlers"];

const DURATION: &str = "a duration longer than 0 and up to 365d, such as `250ms`, `30s`, `5m`, `24h` or `7d`";
const BOOLEAN: &str = "`true` or `false`";
const BYTES: &str = "a number of bytes from 1 to 1099511627776";
const BUFFER: &str = "an integer from 1 to 1048576";

/// The keys of section `event`.
pub(super) const ROOT: &[Key<Config>] = &[
    Key { path: "url", expected: "a URL such as `memory://` or `sqlite://orders.db`", set: |to, value| url(value).map(|url| to.url = url) },
    Key {
        path: "store",
        expected: "a URL such as `sqlite://orders.db` or `postgres://host/db`",
        set: |to, value| url(value).map(|url| to.store = Some(url)),
    },
    Key {
        path: "event_log",
        expected: DURATION,
        set: |to, value| duration(value).map(|ms| to.event_log = Some(Duration::from_millis(ms))),
    },
    Key { path: "store_first", expected: BOOLEAN, set: |to, value| value.boolean().map(|yes| to.store_first = yes) },
    Key { path: "output_buffer", expected: BUFFER, set: |to, value| integer(value, 1, 1_048_576).map(|n| to.output_buffer = Some(n)) },
    Key {
        path: "group",
        expected: "a name of ASCII letters, digits, `_`, `-` and `.`, up to 200 bytes",
        set: |to, value| Name::new(value.text()?).ok().map(|name| to.group = name),
    },
    Key {
        path: "shutdown_grace",
        expected: "a duration up to 365d, such as `30s`",
        set: |to, value| parse_ms(value.text()?).map(|ms| to.shutdown_grace = Duration::from_millis(ms)),
    },
    Key { path: "max_hops", expected: "an integer from 1 to 10000", set: |to, value| integer(value, 1, 10_000).map(|n| to.max_hops = n) },
    Key {
        path: "payload_bytes_max",
        expected: "a number of bytes from 1 to 1073741824",
        set: |to, value| integer(value, 1, 1 << 30).map(|n| to.payload_bytes_max = n as usize),
    },
];

/// The keys of `defaults` and of each of `handlers`.
pub(super) const POLICY: &[Key<PolicyPatch>] = &[
    Key {
        path: "retry.attempts",
        expected: "an integer from 1 to 4294967295",
        set: |to, value| integer(value, 1, u32::MAX.into()).map(|n| to.attempts = Some(n)),
    },
    Key {
        path: "retry.backoff",
        expected: "`fixed` or `exponential`",
        set: |to, value| {
            to.backoff = Some(match value.text()? {
                "fixed" => Backoff::Fixed,
                "exponential" => Backoff::Exponential,
                _ => return None,
            });
            Some(())
        },
    },
    Key { path: "retry.min", expected: DURATION, set: |to, value| duration(value).map(|ms| to.retry_min_ms = Some(ms)) },
    Key { path: "retry.max", expected: DURATION, set: |to, value| duration(value).map(|ms| to.retry_max_ms = Some(ms)) },
    Key { path: "retry.jitter", expected: BOOLEAN, set: |to, value| value.boolean().map(|yes| to.jitter = Some(yes)) },
    Key {
        path: "timeout",
        expected: "a duration longer than 0 and up to 365d, such as `30s`, or `none`",
        set: |to, value| if value.text() == Some("none") { Some(0) } else { duration(value) }.map(|ms| to.timeout_ms = Some(ms)),
    },
    Key {
        path: "concurrency",
        expected: "an integer from 1 to 65536",
        set: |to, value| integer(value, 1, 65_536).map(|n| to.concurrency = Some(n)),
    },
    Key { path: "batch", expected: "an integer from 1 to 100000", set: |to, value| integer(value, 1, 100_000).map(|n| to.batch = Some(n)) },
    Key { path: "max_wait", expected: DURATION, set: |to, value| duration(value).map(|ms| to.max_wait_ms = Some(ms)) },
    Key { path: "bytes", expected: BYTES, set: |to, value| bytes(value).map(|n| to.batch_bytes = Some(n)) },
    Key { path: "ordered", expected: BOOLEAN, set: |to, value| value.boolean().map(|yes| to.ordered = Some(yes)) },
    Key {
        path: "idempotent",
        expected: "`true`, `false` or `{window: 24h}`",
        set: |to, value| value.boolean().map(|yes| to.idempotent = Some(yes)),
    },
    Key {
        path: "idempotent.window",
        expected: DURATION,
        set: |to, value| {
            to.window_ms = Some(duration(value)?);
            to.idempotent = Some(true);
            Some(())
        },
    },
    Key {
        path: "when_full",
        expected: "`wait`, `fail` or `shed`",
        set: |to, value| {
            to.when_full = Some(match value.text()? {
                "wait" => WhenFull::Wait,
                "fail" => WhenFull::Fail,
                "shed" => WhenFull::Shed,
                _ => return None,
            });
            Some(())
        },
    },
    Key { path: "dead_letter", expected: BOOLEAN, set: |to, value| value.boolean().map(|yes| to.dead_letter = Some(yes)) },
    Key { path: "output_buffer", expected: BUFFER, set: |to, value| integer(value, 1, 1_048_576).map(|n| to.buffer = Some(n)) },
    Key { path: "buffer_bytes", expected: BYTES, set: |to, value| bytes(value).map(|n| to.buffer_bytes = Some(n)) },
];

fn integer(value: &Scalar, min: i128, max: i128) -> Option<u32> {
    value.integer().filter(|n| (min..=max).contains(n)).and_then(|n| u32::try_from(n).ok())
}

fn bytes(value: &Scalar) -> Option<u64> {
    value.integer().filter(|n| (1..=1 << 40).contains(n)).and_then(|n| u64::try_from(n).ok())
}

fn duration(value: &Scalar) -> Option<u64> {
    parse_ms(value.text()?).filter(|ms| *ms > 0)
}

fn url(value: &Scalar) -> Option<String> {
    let (scheme, _) = value.text()?.split_once("://")?;
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(known)).then(|| value.text().map(str::to_owned))?
}
