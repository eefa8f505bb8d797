//! How the server keeps what it is given: what would lose messages is refused, what may is said aloud.

use std::collections::HashMap;

use ::redis::Value;

use super::super::Durability;
use super::error::Fault;
use super::reply;
use super::server::Server;
use crate::error::{Error, ErrorKind, Result};

/// What was found out.
#[derive(Debug, Default)]
struct Found {
    info: HashMap<String, String>,
    /// As `CONFIG GET` tells, where it may be asked.
    config: HashMap<String, String>,
}

/// Looks at the server, and answers what is kept by it survives.
pub(super) async fn look(server: &Server) -> Result<Durability> {
    let found = ask(server).await.map_err(|fault| fault.failed())?;
    found.refuse()?;
    let (durability, warning) = found.durability();
    if let Some(warning) = warning {
        tracing::warn!("redis: {warning}");
    }
    Ok(durability)
}

async fn ask(server: &Server) -> Result<Found, Fault> {
    let mut found = Found::default();
    let info = reply::text(&server.ask(&::redis::cmd("INFO")).await?);
    found.info = info.lines().filter_map(|line| line.trim().split_once(':')).map(|(name, value)| (name.into(), value.into())).collect();
    for name in ["appendfsync", "no-appendfsync-on-rewrite"] {
        match server.ask(::redis::cmd("CONFIG").arg("GET").arg(name)).await {
            Ok(Value::Array(pair)) if pair.len() == 2 => drop(found.config.insert(name.into(), reply::text(&pair[1]))),
            // Forbidden, or not there: it is not known.
            Ok(_) | Err(Fault::Refused(_) | Fault::Broken(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}

impl Found {
    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn config(&self, name: &str) -> &str {
        self.config.get(name).map_or("", String::as_str)
    }

    fn refuse(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Config, format!("redis: {text}")));
        let version = self.info("redis_version");
        if version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < 7) {
            return refuse(
                "the server is older than 7.0, whose scripts do not stop half-way when memory is short: use 7.0 or newer".into(),
            );
        }
        if self.info("cluster_enabled") == "1" {
            return refuse(
                "the server is part of a cluster, which is not supported: use a server of its own (with replicas, if you like)".into(),
            );
        }
        if self.info("role") == "slave" {
            return refuse("the server is a replica, which stores nothing: name the primary".into());
        }
        let policy = self.info("maxmemory_policy");
        if policy.starts_with("allkeys") {
            return refuse(format!(
                "with `maxmemory-policy {policy}` the server throws away whole queues when its memory is short: set `maxmemory-policy noeviction`"
            ));
        }
        Ok(())
    }

    fn durability(&self) -> (Durability, Option<&'static str>) {
        if self.info("aof_enabled") != "1" {
            return (
                Durability::Restart,
                Some(
                    "the server keeps no log of what it is given (`appendonly no`): when it dies, what it acknowledged is lost; set `appendonly yes` and `appendfsync always`",
                ),
            );
        }
        match (self.config("appendfsync"), self.config("no-appendfsync-on-rewrite")) {
            ("always", "no") => (Durability::PowerLoss, None),
            ("always", _) => (
                Durability::ServerCrash,
                Some(
                    "with `no-appendfsync-on-rewrite yes` a power failure during a rewrite of the log loses what was acknowledged; set it to `no`",
                ),
            ),
            ("", _) => (
                Durability::Restart,
                Some(
                    "`CONFIG GET appendfsync` is not allowed, so it is not known what survives the server; make sure of `appendfsync always`",
                ),
            ),
            _ => (
                Durability::Restart,
                Some(
                    "without `appendfsync always` what was acknowledged in the last second or two is lost when the server dies; set `appendfsync always`",
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(info: &[(&str, &str)], config: &[(&str, &str)]) -> Found {
        let map = |list: &[(&str, &str)]| list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Found { info: map(info), config: map(config) }
    }

    #[test]
    fn what_would_lose_messages_is_refused_with_the_cure() {
        for (info, cure) in [
            (&[("maxmemory_policy", "allkeys-lru")][..], "noeviction"),
            (&[("maxmemory_policy", "allkeys-random")], "noeviction"),
            (&[("cluster_enabled", "1")], "a server of its own"),
            (&[("role", "slave")], "name the primary"),
            (&[("redis_version", "6.2.7")], "7.0 or newer"),
        ] {
            let error = found(info, &[]).refuse().unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains(cure), "{error}");
        }
        let well = [("redis_version", "7.0.15"), ("role", "master"), ("maxmemory_policy", "volatile-lru"), ("cluster_enabled", "0")];
        assert!(found(&well, &[]).refuse().is_ok(), "nothing of ours has a time to live");
    }

    #[test]
    fn only_what_is_kept_is_declared() {
        let aof = [("aof_enabled", "1")];
        let always = ("appendfsync", "always");
        for (info, config, durability) in [
            (&aof[..], &[always, ("no-appendfsync-on-rewrite", "no")][..], Durability::PowerLoss),
            (&aof, &[always, ("no-appendfsync-on-rewrite", "yes")], Durability::ServerCrash),
            (&aof, &[("appendfsync", "everysec")], Durability::Restart),
            (&aof, &[], Durability::Restart),
            (&[("aof_enabled", "0")], &[always], Durability::Restart),
        ] {
            let (declared, warning) = found(info, config).durability();
            assert_eq!(declared, durability, "{info:?} {config:?}");
            assert_eq!(warning.is_none(), durability == Durability::PowerLoss);
        }
    }
}
