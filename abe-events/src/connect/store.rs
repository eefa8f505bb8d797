//! A URL chooses the store's database.

#[cfg(feature = "sqlite")]
use crate::broker::sqlite::Synchronous;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Database;
#[cfg(feature = "sqlite")]
use crate::store::sqlite::{Settings, SqliteStore};

/// What there is.
const HERE: &str = match (cfg!(feature = "sqlite"), cfg!(feature = "postgres")) {
    (true, true) => "`sqlite://` and `postgres://`",
    (true, false) => "`sqlite://`, and with the feature `postgres` `postgres://`",
    _ => "`postgres://`, and with the feature `sqlite` `sqlite://`",
};

/// Opens the store of a URL. The URL itself, which may hold a password, is never part of an error.
pub(crate) async fn open_store(url: &str) -> Result<std::sync::Arc<dyn Database>> {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let (path, synchronous) = super::sqlite::parse(url)?;
            let settings = Settings { path, full: synchronous == Synchronous::Full };
            Ok(std::sync::Arc::new(SqliteStore::open(&settings).await?))
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(std::sync::Arc::new(crate::store::postgres::PostgresStore::open(url).await?)),
        _ => Err(Error::new(
            ErrorKind::Config,
            format!("no store has the scheme {:?}; this build has {HERE}", scheme.chars().take(20).collect::<String>()),
        )),
    }
}

/// Opens the store in the database of a broker's URL, some of whose parameters may be the broker's alone.
pub(crate) async fn open_store_beside(broker: &str) -> Result<std::sync::Arc<dyn Database>> {
    open_store(&without_brokers_own(broker)).await
}

fn without_brokers_own(url: &str) -> std::borrow::Cow<'_, str> {
    #[cfg(feature = "postgres")]
    if let Some((place, parameters)) = url.split_once('?').filter(|_| url.starts_with("postgres")) {
        let name = |parameter: &str| parameter.split_once('=').map_or(parameter, |(name, _)| name).to_owned();
        let both = |parameter: &&str| !crate::broker::postgres::OWN_PARAMETERS.contains(&name(parameter).as_str());
        let parameters: Vec<&str> = parameters.split('&').filter(both).collect();
        let mark = if parameters.is_empty() { "" } else { "?" };
        return format!("{place}{mark}{}", parameters.join("&")).into();
    }
    url.into()
}

/// Whether a broker's URL names a database that this build has a store for.
pub(crate) fn is_store(url: &str) -> bool {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    (cfg!(feature = "sqlite") && scheme == "sqlite") || (cfg!(feature = "postgres") && matches!(scheme, "postgres" | "postgresql"))
}

/// Whether broker and store write to one SQLite file, so that one waits for the other.
pub(crate) fn is_one_file(broker: &str, store: &str) -> bool {
    #[cfg(feature = "sqlite")]
    if broker.starts_with("sqlite:")
        && let (Ok((broker, _)), Ok((store, _))) = (super::sqlite::parse(broker), super::sqlite::parse(store))
    {
        // The store has just made sure that its file is there.
        let whole = |path: &std::path::Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        return whole(&broker) == whole(&store);
    }
    let _ = (broker, store);
    false
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_broker_s_alone_is_not_asked_of_the_store() {
        for (url, beside) in [
            ("postgres://u@h/d?timeout=5", "postgres://u@h/d"),
            ("postgres://u@h/d?acks=relaxed&schema=ours&poll_ms=50&notify=off&pooler=on", "postgres://u@h/d?schema=ours&pooler=on"),
            ("postgres://u@h/d?timeouts=5", "postgres://u@h/d?timeouts=5"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("sqlite://a.db?synchronous=full", "sqlite://a.db?synchronous=full"),
        ] {
            assert_eq!(without_brokers_own(url), beside);
        }
    }

    #[tokio::test]
    async fn a_store_behind_a_pooler_is_refused_with_the_cure() {
        let refused = open_store("postgres://u:s3cret@h/d?pooler=transaction").await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        let text = refused.to_string();
        assert!(text.contains("`event.store`") && text.contains("session mode") && !text.contains("s3cret"), "{text}");
        let beside = open_store_beside("postgres://u@h/d?notify=off&pooler=transaction").await.map(drop).unwrap_err();
        assert_eq!(beside.to_string(), text);
    }
}
