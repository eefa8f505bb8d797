//! A URL chooses the broker. The only place that knows all of them.

#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod store;

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::memory::MemoryBroker;
use crate::error::{Error, ErrorKind, Result};

/// Schemes of brokers that are planned and not part of this version.
const PLANNED: [&str; 2] = ["amqp", "kafka"];

/// What there is.
fn here() -> String {
    let optional = [
        ("sqlite", cfg!(feature = "sqlite")),
        ("postgres", cfg!(feature = "postgres")),
        ("nats", cfg!(feature = "nats")),
        ("redis", cfg!(feature = "redis")),
    ];
    let schemes = optional.iter().filter(|(_, there)| *there).map(|(scheme, _)| format!(", `{scheme}://`"));
    format!("`memory://`{}", schemes.collect::<String>())
}

/// The broker of a URL.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] for a scheme this build does not have, naming what there is. The URL itself, which may hold
/// a password, is never part of the message.
pub(crate) async fn connect(url: &str) -> Result<Arc<dyn Broker>> {
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
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(crate::broker::postgres::PostgresBroker::builder(url)?.open().await?)),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(Error::new(
            ErrorKind::Unsupported,
            "the postgres broker is not part of this build; add the feature `postgres` to abe-events in Cargo.toml, or use `memory://`",
        )),
        #[cfg(feature = "nats")]
        "nats" | "tls" => Ok(Arc::new(crate::broker::nats::NatsBroker::builder(url)?.open().await?)),
        #[cfg(not(feature = "nats"))]
        "nats" | "tls" => Err(Error::new(
            ErrorKind::Unsupported,
            "the nats broker is not part of this build; add the feature `nats` to abe-events in Cargo.toml, or use `memory://`",
        )),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(crate::broker::redis::RedisBroker::builder(url)?.open().await?)),
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" => Err(Error::new(
            ErrorKind::Unsupported,
            "the redis broker is not part of this build; add the feature `redis` to abe-events in Cargo.toml, or use `memory://`",
        )),
        known if PLANNED.contains(&known) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the {known} broker is not part of this version of abe-events; use `memory://`, or give a broker of your own by `Runtime::builder().broker(..)`"
            ),
        )),
        _ => Err(Error::new(
            ErrorKind::Config,
            format!("no broker has the scheme {:?}; this build has {}", scheme.chars().take(20).collect::<String>(), here()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_or_planned_scheme_is_told_without_the_url() {
        for url in ["kafka://user:hunter2@host", "ftp://user:hunter2@host", "hunter2", "memory://hunter2"] {
            let error = connect(url).await.unwrap_err();
            assert!(url == "hunter2" || !error.to_string().contains("hunter2"), "{error}");
            assert!(error.to_string().contains("memory://"), "{error}");
        }
        assert!(connect("memory://").await.is_ok());
    }

    #[cfg(not(feature = "nats"))]
    #[tokio::test]
    async fn nats_that_was_left_out_names_its_feature() {
        let error = connect("nats://user:hunter2@host").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature `nats`") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[cfg(feature = "nats")]
    #[tokio::test]
    async fn a_nats_url_that_cannot_be_meant_is_told_without_it() {
        for url in ["nats://user:hunter2@host?steam=x", "tls://user:hunter2@127.0.0.1:1?connect_timeout=1"] {
            let error = connect(url).await.unwrap_err();
            assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[cfg(not(feature = "redis"))]
    #[tokio::test]
    async fn redis_that_was_left_out_names_its_feature() {
        let error = connect("redis://user:hunter2@host").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature `redis`") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[cfg(feature = "redis")]
    #[tokio::test]
    async fn a_redis_url_that_cannot_be_meant_is_told_without_it() {
        for url in
            ["redis://user:hunter2@localhost?perfix=x", "rediss://user:hunter2@h", "redis://user:hunter2@127.0.0.1:1?connect_timeout=1"]
        {
            let error = connect(url).await.unwrap_err();
            assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[cfg(not(feature = "postgres"))]
    #[tokio::test]
    async fn postgres_that_was_left_out_names_its_feature() {
        let error = connect("postgres://user:hunter2@host/db").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature `postgres`") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn a_postgres_url_that_cannot_be_meant_is_told_without_it() {
        for url in ["postgres://user:hunter2@host/db?shema=x", "postgresql://user:hunter2@127.0.0.1:1/db?connect_timeout=1"] {
            let error = connect(url).await.unwrap_err();
            assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
