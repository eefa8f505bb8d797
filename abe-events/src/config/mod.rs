//! What a program is told from outside: section `event` of `config.yaml`, `config.yml` or `config.toml`, then the environment.
//!
//! ```yaml
//! event:
//!   url: sqlite://orders.db          # what carries events; memory:// unless given
//!   store: postgres://db/shop        # durable inbox, outbox and dead letters for a broker that has none
//!   output_buffer: 64                # messages that wait per subscription
//!   group: shop                      # subscriptions of one group share the work
//!   shutdown_grace: 30s
//!   max_hops: 32
//!   payload_bytes_max: 1048576
//!   defaults:                        # for every handler; its attribute says it more exactly
//!     timeout: 30s                   # or none
//!     retry: {attempts: 5, backoff: exponential, min: 100ms, max: 30s, jitter: true}
//!   handlers:                        # by name; wins over the attribute
//!     orders::bill:
//!       concurrency: 4
//!       batch: 50
//!       max_wait: 5s
//!       idempotent: {window: 7d}     # or true, false
//! ```
//!
//! A policy also knows `bytes`, `ordered`, `when_full` (`wait`, `fail`, `shed`), `dead_letter`, `output_buffer` and
//! `buffer_bytes`. Durations are `<int>(ms|s|m|h|d)`. Other sections of the file are not looked at.
//!
//! In the environment a key stands in capitals after `ABE_EVENT_`, with `__` where the file nests:
//! `ABE_EVENT_URL=memory://`, `ABE_EVENT_DEFAULTS__RETRY__ATTEMPTS=7`. A handler's name stands there in capitals with one
//! `_` for every run of other characters, so `orders::bill` is meant by `ABE_EVENT_HANDLERS__ORDERS_BILL__TIMEOUT=5s`;
//! of two handlers with the same form both are meant. `ABE_EVENT_CONFIG` names another file, or, empty, none.
//!
//! Mistakes are told all at once, each with its place, what was found and what is allowed:
//!
//! ```
//! use abe_events::config::Config;
//!
//! let error = Config::parse("config.yaml", "event:\n  ulr: memory://\n  max_hops: many\n").unwrap_err();
//! assert_eq!(error.to_string(), "2 mistakes in the configuration:
//!   config.yaml:2: unknown key event.ulr: did you mean `url`?
//!   config.yaml:3: event.max_hops is \"many\", expected an integer from 1 to 10000");
//! ```

mod apply;
pub(crate) mod duration;
mod env;
mod keys;
pub(crate) mod nearest;
mod redact;
mod sources;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use self::redact::redact_url;
pub use self::sources::Sources;
pub(crate) use self::sources::overlay;
use crate::message::PAYLOAD_BYTES_MAX;
use crate::policy::PolicyPatch;
use crate::topic::Name;

/// Everything that can be configured, with defaults for what is not.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// What carries events. Default `memory://`.
    pub url: String,
    /// The database that gives any broker a durable inbox, outbox, event log and dead letters. Default: none.
    pub store: Option<String>,
    /// How long the store's event log keeps an event. Default: there is no event log.
    pub event_log: Option<Duration>,
    /// Whether a publish goes into the store first, from where a relay brings it to the broker. Default no.
    pub store_first: bool,
    /// How many messages wait or run per subscription at most, unless a policy says otherwise. Default: as
    /// [`Policy::buffer`](crate::policy::Policy::buffer), 64. When read, it is also in `defaults`, which wins.
    pub output_buffer: Option<u32>,
    /// Subscriptions of one group share the work. Default `app`.
    pub group: Name,
    /// How long handlers in flight may take to finish at shutdown. Default 30 s.
    pub shutdown_grace: Duration,
    /// How many handlers a chain of events may pass. Default 32.
    pub max_hops: u32,
    /// The largest payload, in bytes. Default [`PAYLOAD_BYTES_MAX`].
    pub payload_bytes_max: usize,
    /// The policy of every handler, over which its attribute is laid.
    pub defaults: PolicyPatch,
    /// Policies by handler name (with `.` for `::`), laid over the attribute.
    pub handlers: BTreeMap<String, PolicyPatch>,
    /// Policies of the environment, by the form a name has there; those of known `handlers` are merged in already.
    env_handlers: BTreeMap<String, PolicyPatch>,
    /// Where each of `handlers` stands.
    given: BTreeMap<String, Given>,
}

#[derive(Debug, Clone, PartialEq)]
struct Given {
    file: String,
    line: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "memory://".into(),
            store: None,
            event_log: None,
            store_first: false,
            output_buffer: None,
            group: Name::from_checked("app"),
            shutdown_grace: Duration::from_secs(30),
            max_hops: 32,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            defaults: PolicyPatch::NONE,
            handlers: BTreeMap::new(),
            env_handlers: BTreeMap::new(),
            given: BTreeMap::new(),
        }
    }
}

impl Config {
    /// What the environment and the files of the working directory say: [`Sources::process`], read.
    ///
    /// # Errors
    ///
    /// As [`Sources::read`].
    pub fn load() -> crate::Result<Self> {
        Sources::process().read()
    }

    /// What a text says; the name's ending tells YAML from TOML.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with every mistake found.
    pub fn parse(file_name: &str, text: &str) -> crate::Result<Self> {
        Sources::new().text(file_name, text).read()
    }

    /// What is configured for a handler, by its name with `::` or dots.
    ///
    /// ```
    /// use abe_events::config::Sources;
    ///
    /// let env = [("ABE_EVENT_HANDLERS__ORDERS_BILL__CONCURRENCY", "8")];
    /// let config = Sources::new().env(env).read().unwrap();
    /// assert_eq!(config.for_handler("orders::bill").unwrap().concurrency, Some(8));
    /// assert!(config.for_handler("orders::ship").is_none());
    /// ```
    pub fn for_handler(&self, name: &str) -> Option<&PolicyPatch> {
        self.handlers.get(&name.replace("::", ".")).or_else(|| self.env_handlers.get(&env::handler_form(name)))
    }

    /// Handlers that are configured, but that nobody knows: most likely a name was mistyped or has changed.
    pub fn unknown_handlers(&self, known: &[&str]) -> Vec<UnknownHandler> {
        let dotted: Vec<String> = known.iter().map(|name| name.replace("::", ".")).collect();
        let forms: Vec<String> = known.iter().map(|name| env::handler_form(name)).collect();
        let in_files = self.handlers.keys().filter(|name| !dotted.contains(name)).map(|name| UnknownHandler {
            place: self.given.get(name).map_or_else(|| "the builder".into(), |at| format!("{}:{}", at.file, at.line)),
            nearest: likely(name, '.', &dotted).map(|at| known[at].to_owned()),
            name: name.clone(),
        });
        // A variable for a handler of the file is told there, if at all.
        let of_files: Vec<String> = self.handlers.keys().map(|name| env::handler_form(name)).collect();
        let in_env = self.env_handlers.keys().filter(|form| !forms.contains(form) && !of_files.contains(form)).map(|form| UnknownHandler {
            place: "the environment".into(),
            nearest: likely(form, '_', &forms).map(|at| known[at].to_owned()),
            name: form.clone(),
        });
        in_files.chain(in_env).collect()
    }
}

/// Which of the known names is most likely meant: one that ends with the given, or the nearest.
fn likely(given: &str, separator: char, known: &[String]) -> Option<usize> {
    let tail = format!("{separator}{given}");
    let near = || nearest::nearest(given, known.iter().map(String::as_str)).and_then(|near| known.iter().position(|name| name == near));
    // Most people write the function's name without its modules.
    let last = |name: &'_ str| name.rsplit(separator).next().unwrap_or(name).to_owned();
    let lasts: Vec<String> = known.iter().map(|name| last(name)).collect();
    let near_last =
        || nearest::nearest(given, lasts.iter().map(String::as_str)).and_then(|near| lasts.iter().position(|name| name == near));
    known.iter().position(|name| name.ends_with(&tail)).or_else(near).or_else(near_last)
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &redact_url(&self.url))
            .field("store", &self.store.as_deref().map(redact_url))
            .field("event_log", &self.event_log)
            .field("store_first", &self.store_first)
            .field("output_buffer", &self.output_buffer)
            .field("group", &self.group)
            .field("shutdown_grace", &self.shutdown_grace)
            .field("max_hops", &self.max_hops)
            .field("payload_bytes_max", &self.payload_bytes_max)
            .field("defaults", &self.defaults)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

/// A handler that is configured, but not known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownHandler {
    /// The name as it is configured.
    pub name: String,
    /// Where it stands: a file and line, or the environment.
    pub place: String,
    /// The known handler that is most likely meant.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: no handler is called {:?}", self.place, self.name)?;
        self.nearest.as_ref().map_or(Ok(()), |near| write!(f, ", did you mean {near:?}?"))
    }
}
