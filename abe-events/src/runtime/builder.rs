//! Settings, state and chosen handlers, before anything runs.

use std::borrow::Borrow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Runtime;
use super::launch::{self, Connected, Extras};
use super::observer::Observer;
use super::store::{Pool, Stored};
use crate::broker::Broker;
use crate::config::{Config, Sources};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{HandlerDescriptor, States};
use crate::policy::PolicyPatch;
use crate::registry::{Declared, Report};

/// Builds a [`Runtime`]. What is said here wins over environment and file.
#[must_use = "nothing runs before `.start().await`"]
#[derive(Default)]
pub struct RuntimeBuilder {
    source: Source,
    url: Option<String>,
    group: Option<String>,
    output_buffer: Option<u32>,
    shutdown_grace: Option<Duration>,
    max_hops: Option<u32>,
    defaults: Option<PolicyPatch>,
    handlers: Option<Vec<&'static HandlerDescriptor>>,
    states: States,
    /// State types that were given twice.
    repeated: Vec<&'static str>,
    broker: Option<Arc<dyn Broker>>,
    observer: Option<Arc<dyn Observer>>,
    lease: Option<Duration>,
    store: Option<String>,
    event_log: Option<Duration>,
    store_first: bool,
    pool: Pool,
}

/// Where the configuration comes from.
#[derive(Default)]
enum Source {
    /// `config.yaml` and the like in the working directory, then the environment.
    #[default]
    Usual,
    File(PathBuf),
    Given(Box<Config>),
}

impl RuntimeBuilder {
    /// Reads this file instead of `config.yaml`; the environment is laid over it.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Source::File(path.into());
        self
    }

    /// Takes this configuration, and reads neither file nor environment.
    pub fn config(mut self, config: Config) -> Self {
        self.source = Source::Given(Box::new(config));
        self
    }

    /// The broker's URL; default `memory://`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The database that gives any broker a durable inbox, [`Tx`](crate::Tx) and an outbox: `sqlite://path`, or
    /// `postgres://…`. Default: the broker's own database, if it is one; otherwise none.
    ///
    /// With it `idempotent` remembers over restarts and for all processes that share the database. Wants the feature of the
    /// database, `sqlite` or `postgres`.
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// As [`store`](RuntimeBuilder::store), through a pool of the program's own: what a handler's `Tx` is taken from.
    ///
    /// Lanes of handlers with `Tx` hold one connection each, and the runtime needs two more: give it as many. The pool is
    /// the program's to close, after the runtime has stopped.
    #[cfg(feature = "sqlite")]
    pub fn sqlite_pool(mut self, pool: sqlx::SqlitePool) -> Self {
        self.pool = Pool::Sqlite(pool);
        self
    }

    /// As [`store`](RuntimeBuilder::store), through a pool of the program's own: what a handler's `Tx` is taken from. The
    /// tables are in the schema `abe_events`.
    ///
    /// Lanes of handlers with `Tx` hold one connection each, and the runtime needs two more: give it as many. The pool is
    /// the program's to close, after the runtime has stopped.
    #[cfg(feature = "postgres")]
    pub fn postgres_pool(mut self, pool: sqlx::PgPool) -> Self {
        self.pool = Pool::Postgres(pool);
        self
    }

    /// Keeps a log of every event, published or handled, for so long: what became of it in each subscription, with retries
    /// and the last error. Read by [`Runtime::event_log`]. Needs a store. Default: no log.
    ///
    /// It costs: an event is written down before it is published, in a transaction that concurrent publishes share, and
    /// handing over within the process goes the longer way.
    pub fn event_log(mut self, keep: Duration) -> Self {
        self.event_log = Some(keep);
        self
    }

    /// Lets every publish go into the store first, with `Ok` as soon as it is there; a relay brings it to the broker, in
    /// order per key, and does so after the next start for what a crash left behind. While the broker is away,
    /// publishing goes on. Needs a store. Default: publishes go straight to the broker.
    ///
    /// It is for a broker that may be away or that forgets, as the memory broker does; where the broker is the store's own
    /// database it doubles the work. A delay counts from when the relay publishes, and a publish in a full queue waits
    /// there, not here: the store is what bounds it.
    pub fn store_first(mut self) -> Self {
        self.store_first = true;
        self
    }

    /// A broker that is already there: shared with another runtime, configured beyond its URL, or of another crate.
    pub fn broker(mut self, broker: Arc<dyn Broker>) -> Self {
        self.broker = Some(broker);
        self
    }

    /// The group of handlers that do not name theirs: usually the service's name.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// How many messages wait or run per subscription at most; default 64.
    pub fn output_buffer(mut self, messages: u32) -> Self {
        self.output_buffer = Some(messages);
        self
    }

    /// How long a shutdown waits for what is in flight; default 30 s.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = Some(grace);
        self
    }

    /// How long a delivery may stay unsettled before it goes to another consumer; lanes renew it while a handler waits.
    /// Default 30 s on brokers whose consumers can die alone; none on the memory broker, which dies with them.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How deep a chain of events may get; default 32.
    pub fn max_hops(mut self, hops: u32) -> Self {
        self.max_hops = Some(hops);
        self
    }

    /// What handlers do that do not say it themselves.
    pub fn defaults(mut self, defaults: PolicyPatch) -> Self {
        self.defaults = Some(defaults);
        self
    }

    /// A state that handlers take as `State<S>` or `&S`, one per type.
    pub fn state<S: Send + Sync + 'static>(self, state: S) -> Self {
        self.shared_state(Arc::new(state))
    }

    /// A state that the program keeps a handle of.
    pub fn shared_state<S: Send + Sync + 'static>(mut self, state: Arc<S>) -> Self {
        if !self.states.insert(state) {
            self.repeated.push(std::any::type_name::<S>());
        }
        self
    }

    /// Runs these handlers only, whatever else is linked; see [`handlers!`](crate::handlers).
    pub fn handlers(mut self, handlers: impl IntoIterator<Item = impl Borrow<&'static HandlerDescriptor>>) -> Self {
        self.handlers.get_or_insert_default().extend(handlers.into_iter().map(|handler| *handler.borrow()));
        self
    }

    /// Lets the test kit look in.
    #[cfg(feature = "testing")]
    pub(crate) fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Judges handlers, events and configuration, without a broker and without state.
    ///
    /// # Errors
    ///
    /// As [`RuntimeBuilder::start`], for everything that can be seen without a broker.
    pub fn check(self) -> Result<Report> {
        let (declared, config) = self.into_parts()?;
        let (_, report) = declared.plan(&config, None);
        report.to_error().map_or(Ok(report), Err)
    }

    /// What is declared, sound or not.
    pub(super) fn report(self) -> Result<Report> {
        let (declared, config) = self.into_parts()?;
        Ok(declared.plan(&config, None).1)
    }

    /// Resolves, connects, subscribes and runs. Answers when every subscription exists: what is published afterwards reaches it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a wrong configuration; [`ErrorKind::Start`] with every finding, its source line and its
    /// cure; or the broker's own error. Nothing is left running.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn start(mut self) -> Result<Runtime> {
        let mut states = std::mem::take(&mut self.states);
        let (broker, pool) = (self.broker.take(), std::mem::take(&mut self.pool));
        let (observer, lease) = (self.observer.take(), self.lease);
        let (declared, config) = self.into_parts()?;
        let broker = match broker {
            Some(broker) => Connected { broker, owned: false },
            None => Connected { broker: crate::connect::connect(&config.url).await?, owned: true },
        };
        let url = broker.owned.then_some(config.url.as_str());
        let stored = Stored::open(pool, config.store.as_deref(), url).await?;
        stored.announce(&mut states);
        let started = launch::launch(&declared, config, &states, broker, Extras { observer, lease, stored: stored.clone() }).await;
        if started.is_err() {
            stored.close().await;
        }
        started
    }

    fn into_parts(self) -> Result<(Declared, Config)> {
        if let Some(state) = self.repeated.first() {
            return Err(Error::new(ErrorKind::Start, format!("state `{state}` was given twice; wrap one of them in a type of its own")));
        }
        let mut config = match self.source {
            Source::Usual => Config::load()?,
            Source::File(path) => Sources::process().path(path).read()?,
            Source::Given(config) => *config,
        };
        if let Some(url) = self.url {
            config.url = url;
        }
        if let Some(group) = self.group {
            config.group = crate::topic::Name::new(&group)?;
        }
        if let Some(store) = self.store {
            config.store = Some(store);
        }
        config.event_log = self.event_log.or(config.event_log);
        config.store_first |= self.store_first;
        config.shutdown_grace = self.shutdown_grace.unwrap_or(config.shutdown_grace);
        config.max_hops = self.max_hops.unwrap_or(config.max_hops);
        if let Some(defaults) = &self.defaults {
            crate::config::overlay(&mut config.defaults, defaults);
        }
        if let Some(messages) = self.output_buffer {
            config.output_buffer = Some(messages);
            config.defaults.buffer = Some(messages);
        }
        let declared = match self.handlers {
            Some(handlers) => Declared::only(handlers),
            None => Declared::linked(),
        };
        Ok((declared, config))
    }
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RuntimeBuilder").field("states", &self.states).field("handlers", &self.handlers).finish_non_exhaustive()
    }
}
