//! A URL chooses the broker. The only place that knows all of them.

#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::memory::MemoryBroker;
use crate::error::{Error, ErrorKind, Result};

/// Schemes of brokers that are planned and not part of this version.
const PLANNED: [&str; 5] = ["postgres", "nats", "redis", "amqp", "kafka"];

/// What there is.
const HERE: &str = if cfg!(feature = "sqlite") { "`memory://` and `sqlite://`" } else { "`memory://`" };

/// The broker of a URL.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] for a scheme this build does not have, naming what there is. The URL itself, which may hold
/// a password, is never part of the message.
pub(crate) fn connect(url: &str) -> Result<Arc<dyn Broker>> {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    match scheme {
        "memory" if matches!(url, "memory:" | "memory://" | "memory:///") => Ok(Arc::new(MemoryBroker::new())),
        "memory" => Err(Error::new(
            ErrorKind::Config,
            "the memory broker's URL is `memory://` and takes no parameters; give a configured one by `.broker(..)`",
        )),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite::builder(url)?.open()?)),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(Error::new(
            ErrorKind::Unsupported,
            "the sqlite broker is not part of this build; add the feature `sqlite` to abe-events in Cargo.toml, or use `memory://`",
        )),
        known if PLANNED.contains(&known) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the {known} broker is not part of this version of abe-events; use `memory://`, or give a broker of your own by `Runtime::builder().broker(..)`"
            ),
        )),
        _ => Err(Error::new(
            ErrorKind::Config,
            format!("no broker has the scheme {:?}; this build has {HERE}", scheme.chars().take(20).collect::<String>()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_or_planned_scheme_is_told_without_the_url() {
        for url in ["postgres://user:hunter2@host/db", "ftp://user:hunter2@host", "hunter2", "memory://hunter2"] {
            let error = connect(url).unwrap_err();
            assert!(url == "hunter2" || !error.to_string().contains("hunter2"), "{error}");
            assert!(error.to_string().contains("memory://"), "{error}");
        }
        assert!(connect("memory://").is_ok());
    }
}
