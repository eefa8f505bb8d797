//! The three streams: made where they are missing, and looked at where they are there.

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Fault, NO_STREAM, STREAM_IN_USE};
use super::names::Names;
use super::server::Server;
use super::url::NatsUrl;
use crate::error::{Error, ErrorKind, Result};

/// What a stream says of itself, as far as it matters.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    config: Config,
    pub(super) state: State,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    subjects: Vec<String>,
    retention: String,
    storage: String,
    discard: String,
    max_age: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_msgs_per_subject: i64,
    num_replicas: usize,
    #[serde(default)]
    duplicate_window: u64,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    sealed: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) last_seq: u64,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Events,
    /// One message for each subject, for good.
    Kept,
}

pub(super) async fn info(server: &Server, stream: &str) -> Result<Info, Fault> {
    server.api(format!("STREAM.INFO.{stream}"), &Value::Null).await
}

/// Makes sure that the streams are there, and are such that nothing is lost in them.
pub(super) async fn prepare(server: &Server, names: &Names, url: &NatsUrl) -> Result<()> {
    for (stream, purpose) in [(&names.events, Use::Events), (&names.dead, Use::Kept), (&names.state, Use::Kept)] {
        let info = match info(server, stream).await {
            Err(fault) if fault.is(NO_STREAM) => make(server, stream, purpose, url).await,
            found => found,
        };
        let info = info.map_err(|fault| fault.failed().context(format_args!("stream {stream}")))?;
        if let Some(finding) = finding(&info.config, stream, purpose, url) {
            return Err(Error::new(ErrorKind::Config, format!("nats: stream {stream} {finding}")));
        }
    }
    Ok(())
}

async fn make(server: &Server, stream: &str, purpose: Use, url: &NatsUrl) -> Result<Info, Fault> {
    let config = json!({
        "name": stream,
        "subjects": [format!("{stream}.>")],
        "retention": if purpose == Use::Events { "interest" } else { "limits" },
        "storage": "file",
        // Of events the newest is refused when a limit is reached; of what is kept, the newest of each subject stays.
        "discard": if purpose == Use::Events { "new" } else { "old" },
        "max_msgs_per_subject": if purpose == Use::Events { -1 } else { 1 },
        "max_msgs": -1,
        "max_bytes": -1,
        "max_consumers": -1,
        "num_replicas": url.replicas.unwrap_or(1),
        "duplicate_window": u64::try_from(url.dedup.as_nanos()).unwrap_or(u64::MAX),
    });
    match server.api(format!("STREAM.CREATE.{stream}"), &config).await {
        // Somebody else was faster.
        Err(fault) if fault.is(STREAM_IN_USE) => info(server, stream).await,
        made => made,
    }
}

/// What is wrong with a stream, and the cure.
fn finding(config: &Config, stream: &str, purpose: Use, url: &NatsUrl) -> Option<String> {
    let subject = format!("{stream}.>");
    let retention = if purpose == Use::Events { "interest" } else { "limits" };
    if !config.subjects.contains(&subject) {
        return Some(format!("does not take `{subject}`; add the subject, or choose another name by `stream=`"));
    }
    if config.retention != retention {
        return Some(format!(
            "has retention `{}`, and needs `{retention}`, which cannot be changed: choose another name by `stream=`",
            config.retention
        ));
    }
    if config.storage != "file" {
        return Some(format!("is in {}: a restart of the server would lose it; choose another name by `stream=`", config.storage));
    }
    if config.no_ack {
        return Some("does not answer publishers (`no_ack`); switch its acknowledgements on".to_owned());
    }
    if config.sealed {
        return Some("is sealed; choose another name by `stream=`".to_owned());
    }
    if config.max_age != 0 {
        return Some("drops what is older than `max_age`; set `max_age` to 0".to_owned());
    }
    let limited = config.max_msgs > 0 || config.max_bytes > 0;
    if purpose == Use::Kept && limited {
        return Some("drops the oldest at `max_msgs` or `max_bytes`; take these limits away".to_owned());
    }
    if purpose == Use::Kept && config.max_msgs_per_subject != 1 {
        return Some("keeps more than one message for each subject; set `max_msgs_per_subject` to 1".to_owned());
    }
    if purpose == Use::Events && config.max_msgs_per_subject > 0 {
        return Some("drops the oldest of each subject; set `max_msgs_per_subject` to -1".to_owned());
    }
    if purpose == Use::Events && config.discard != "new" {
        return Some("drops the oldest when it is full; set `discard` to `new`".to_owned());
    }
    if url.replicas.is_some_and(|wanted| wanted != config.num_replicas) {
        return Some(format!("has {} replicas, and the URL asks for {}; change either", config.num_replicas, url.replicas.unwrap_or(1)));
    }
    if purpose == Use::Events && u128::from(config.duplicate_window) < url.dedup.as_nanos() {
        return Some(format!(
            "knows ids for a shorter time than `dedup={}`; change its `duplicate_window` or the URL",
            url.dedup.as_secs()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: Value) -> Option<String> {
        let mut config = json!({
            "subjects": ["s.>"], "retention": "interest", "storage": "file", "discard": "new", "max_age": 0, "max_msgs": -1,
            "max_bytes": -1, "max_msgs_per_subject": -1, "num_replicas": 1, "duplicate_window": 120_000_000_000_u64
        });
        for (name, value) in change.as_object().unwrap() {
            config[name] = value.clone();
        }
        finding(&serde_json::from_value(config).unwrap(), "s", Use::Events, &NatsUrl::parse("nats://localhost?replicas=1").unwrap())
    }

    #[test]
    fn a_stream_that_would_lose_messages_is_told_with_its_cure() {
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({ "max_bytes": 1_000_000 })), None, "a full stream refuses what is new");
        for (change, cure) in [
            (json!({ "subjects": ["other"] }), "add the subject"),
            (json!({ "retention": "limits" }), "another name"),
            (json!({ "storage": "memory" }), "another name"),
            (json!({ "discard": "old" }), "`discard` to `new`"),
            (json!({ "max_age": 1 }), "`max_age` to 0"),
            (json!({ "max_msgs_per_subject": 5 }), "to -1"),
            (json!({ "num_replicas": 3 }), "change either"),
            (json!({ "duplicate_window": 1 }), "duplicate_window"),
            (json!({ "no_ack": true }), "acknowledgements"),
            (json!({ "sealed": true }), "another name"),
        ] {
            let found = of(change.clone()).unwrap_or_default();
            assert!(found.contains(cure), "{change}: {found}");
        }
    }
}
