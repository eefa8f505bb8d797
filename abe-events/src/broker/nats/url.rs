//! `nats://user:password@host:port,host2?stream=shop&replicas=3`: where the servers are, and how they are to be used.
//!
//! No error repeats a value, for it may be a password.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::nearest::nearest;
use crate::error::{Error, ErrorKind, Result};

/// The stream of events, unless the URL names one.
pub(super) const STREAM: &str = "abe_events";

const PARAMETERS: [&str; 9] = ["connect_timeout", "dedup", "replicas", "stream", "timeout", "tls", "tlscacert", "tlscert", "tlskey"];

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) enum Login {
    #[default]
    Nobody,
    Token(String),
    User(String, String),
}

/// What a URL says.
#[derive(Clone)]
pub(super) struct NatsUrl {
    /// `host:port`, as it stands in an address.
    pub(super) servers: Vec<String>,
    pub(super) login: Login,
    pub(super) tls: bool,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) tls_cert: Option<(PathBuf, PathBuf)>,
    pub(super) stream: String,
    /// Of every stream; what is there already is only compared if this is given.
    pub(super) replicas: Option<usize>,
    pub(super) dedup: Duration,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
}

// A URL may tell what must not reach a log.
impl std::fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsUrl").field("stream", &self.stream).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl NatsUrl {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
        if !matches!(scheme, "nats" | "tls") {
            return Err(refuse("it is `nats://host:port`, or `tls://host:port`"));
        }
        if rest.contains('#') {
            return Err(refuse("a `#` in a user or password is written `%23`"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains('/') {
            return Err(refuse("there is no path: the stream is named by `?stream=name`"));
        }
        let (login, servers) = place.rsplit_once('@').unwrap_or(("", place));
        let mut parsed = Self {
            servers: servers.split(',').map(server).collect::<Result<_>>()?,
            login: self::login(login)?,
            tls: false,
            tls_ca: None,
            tls_cert: None,
            stream: STREAM.to_owned(),
            replicas: None,
            dedup: Duration::from_secs(120),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
        };
        let (mut seen, mut chosen, mut cert, mut key) = (Vec::new(), None, None, None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if seen.contains(&name) {
                return Err(refuse(&format!("the parameter {} stands twice", quoted(name))));
            }
            seen.push(name);
            let value = decoded(value)?;
            match name {
                "stream" => parsed.stream = stream(&value)?,
                "replicas" => parsed.replicas = Some(number("replicas", &value, 1, 5)? as usize),
                "dedup" => parsed.dedup = Duration::from_secs(number("dedup", &value, 1, 86_400)?),
                "timeout" => parsed.timeout = Duration::from_secs(number("timeout", &value, 1, 3_600)?),
                "connect_timeout" => parsed.connect_timeout = Duration::from_secs(number("connect_timeout", &value, 1, 3_600)?),
                "tls" => chosen = Some(on_or_off(&value)?),
                "tlscacert" => parsed.tls_ca = Some(value.into()),
                "tlscert" => cert = Some(value.into()),
                "tlskey" => key = Some(value.into()),
                _ => return Err(refuse(&format!("there is no parameter {}{}", quoted(name), meant(name)))),
            }
        }
        parsed.tls_cert = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(refuse("`tlscert` and `tlskey` go together")),
        };
        if scheme == "tls" && chosen == Some(false) {
            return Err(refuse("`tls://` and `tls=off` contradict each other"));
        }
        // A server elsewhere is reached with TLS, and its name verified, unless the URL says otherwise.
        parsed.tls = chosen.unwrap_or(scheme == "tls" || parsed.tls_ca.is_some() || !parsed.servers.iter().all(|host| is_near(host)));
        Ok(parsed)
    }
}

/// `host`, `host:port` or `[address]:port`.
fn server(text: &str) -> Result<String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (format!("[{address}]"), port.strip_prefix(':')),
        Some(_) => return Err(refuse("what stands in brackets is no address")),
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let tidy = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    if host.is_empty() || !host.chars().all(tidy) {
        return Err(refuse("a host is missing, or holds a character that no host has"));
    }
    let port: u16 = match port {
        None | Some("") => 4222,
        Some(port) => port.parse().map_err(|_| refuse("a port is no number up to 65535"))?,
    };
    Ok(format!("{host}:{port}"))
}

/// Whether a server is on this machine.
fn is_near(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn login(text: &str) -> Result<Login> {
    Ok(match text.split_once(':') {
        None if text.is_empty() => Login::Nobody,
        None => Login::Token(decoded(text)?),
        Some((user, password)) => Login::User(decoded(user)?, decoded(password)?),
    })
}

fn stream(value: &str) -> Result<String> {
    let begins = value.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let tidy = value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'));
    if begins && tidy && value.len() <= 64 {
        return Ok(value.to_owned());
    }
    Err(refuse("stream is a name of 1 to 64 letters, digits, `_` and `-` that begins with a letter or digit"))
}

fn number(name: &str, value: &str, from: u64, to: u64) -> Result<u64> {
    let found = value.parse().ok().filter(|number| (from..=to).contains(number));
    found.ok_or_else(|| refuse(&format!("{name} is a number from {from} to {to}")))
}

fn on_or_off(value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(refuse("tls is one of off, on")),
    }
}

fn decoded(text: &str) -> Result<String> {
    let text = crate::wire::decode_header_value(text).ok_or_else(|| refuse("what stands behind a `%` is no UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refuse("it holds a control character"));
    }
    Ok(text.into_owned())
}

fn refuse(text: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the nats URL cannot be used: {text}"))
}

fn meant(given: &str) -> String {
    nearest(given, PARAMETERS).map_or_else(|| format!("; there are {}", PARAMETERS.join(", ")), |near| format!("; did you mean `{near}`?"))
}

fn quoted(name: &str) -> String {
    format!("{:?}", name.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_asks_for_is_understood() {
        let url = "nats://al%20ice:s%3Acret@a.example:4333,b.example?stream=shop&replicas=3&dedup=600&timeout=9";
        let parsed = NatsUrl::parse(url).unwrap();
        assert_eq!(parsed.servers, ["a.example:4333", "b.example:4222"]);
        assert!(parsed.login == Login::User("al ice".into(), "s:cret".into()));
        assert_eq!((parsed.stream.as_str(), parsed.replicas, parsed.dedup.as_secs(), parsed.timeout.as_secs()), ("shop", Some(3), 600, 9));
        assert!(!format!("{parsed:?}").contains("cret"));
        let token = NatsUrl::parse("nats://hunter2@[::1]:4223/").unwrap();
        assert!(token.login == Login::Token("hunter2".into()) && token.servers == ["[::1]:4223"] && !token.tls);
    }

    #[test]
    fn a_server_elsewhere_is_verified_unless_told_otherwise() {
        for (url, tls) in [
            ("nats://a.example", true),
            ("nats://localhost,a.example", true),
            ("nats://10.1.2.3", true),
            ("nats://a.example?tls=off", false),
            ("tls://127.0.0.1", true),
            ("nats://127.0.0.1?tlscacert=ca.pem", true),
            ("nats://127.0.0.1", false),
            ("nats://[::1]", false),
            ("nats://localhost", false),
        ] {
            assert_eq!(NatsUrl::parse(url).unwrap().tls, tls, "{url}");
        }
    }

    #[test]
    fn what_it_cannot_mean_is_told_without_any_value() {
        for (url, said) in [
            ("nats:hunter2", "nats://host"),
            ("nats://", "host is missing"),
            ("nats://u:hunter2@h h", "no host has"),
            ("nats://u:hunter2@h:70000", "port"),
            ("nats://u:hunter2%ff@h", "no UTF-8"),
            ("nats://u:hunter2%0d%0aSUB@h", "control character"),
            ("nats://u:hun#ter2@h", "%23"),
            ("nats://h/hunter2", "no path"),
            ("nats://h?steam=hunter2", "did you mean `stream`?"),
            ("nats://h?what=hunter2", "there are connect_timeout"),
            ("nats://h?stream=hunter2.*", "letters, digits"),
            ("nats://h?stream=$hunter2", "letters, digits"),
            ("nats://h?replicas=hunter2", "from 1 to 5"),
            ("nats://h?replicas=1&replicas=2", "twice"),
            ("tls://h?tls=off", "contradict"),
            ("nats://h?tlscert=hunter2", "go together"),
        ] {
            let error = NatsUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            assert!(text.contains(said) && !text.contains("unter2"), "{url}: {text}");
        }
    }
}
