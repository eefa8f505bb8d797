//! `redis://user:password@host:port/0?prefix=shop`: where the server is, and how it is to be used.
//!
//! No error repeats a value, for it may be a password.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::nearest::nearest;
use crate::error::{Error, ErrorKind, Result};

/// What all keys begin with, unless the URL says otherwise.
const PREFIX: &str = "abe_events";

const PARAMETERS: [&str; 4] = ["connect_timeout", "plaintext", "prefix", "timeout"];

/// What a URL says.
#[derive(Clone)]
pub(super) struct RedisUrl {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    pub(super) prefix: String,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
}

// A URL may tell what must not reach a log.
impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisUrl").field("prefix", &self.prefix).field("database", &self.database).finish_non_exhaustive()
    }
}

impl RedisUrl {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
        match scheme {
            "redis" => {}
            "rediss" => {
                return Err(refuse(
                    "TLS is not part of this version: put a TLS proxy (stunnel, a sidecar) on this machine and use `redis://localhost`",
                ));
            }
            _ => return Err(refuse("it is `redis://host:port`")),
        }
        if rest.contains('#') {
            return Err(refuse("a `#` in a user or password is written `%23`"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, place) = place.rsplit_once('@').unwrap_or(("", place));
        let (server, database) = place.split_once('/').unwrap_or((place, ""));
        let (host, port) = self::server(server)?;
        let (user, password) = match login.split_once(':') {
            None if login.is_empty() => (None, None),
            None => return Err(refuse("a login is `user:password@`, or `:password@`")),
            Some((user, password)) => (Some(decoded(user)?).filter(|user| !user.is_empty()), Some(decoded(password)?)),
        };
        let database = match database {
            "" => 0,
            number => number
                .parse()
                .ok()
                .filter(|number| (0..=65_535).contains(number))
                .ok_or_else(|| refuse("the path is the number of a database"))?,
        };
        let timeout = Duration::from_secs(5);
        let mut parsed = Self { host, port, user, password, database, prefix: PREFIX.to_owned(), timeout, connect_timeout: timeout };
        let (mut seen, mut plaintext) = (Vec::new(), false);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if seen.contains(&name) {
                return Err(refuse(&format!("the parameter {} stands twice", quoted(name))));
            }
            seen.push(name);
            let value = decoded(value)?;
            match name {
                "prefix" => parsed.prefix = prefix(&value)?,
                "timeout" => parsed.timeout = Duration::from_secs(number("timeout", &value)?),
                "connect_timeout" => parsed.connect_timeout = Duration::from_secs(number("connect_timeout", &value)?),
                "plaintext" if value == "on" => plaintext = true,
                "plaintext" => return Err(refuse("plaintext is `on`, or left out")),
                _ => return Err(refuse(&format!("there is no parameter {}{}", quoted(name), meant(name)))),
            }
        }
        if !plaintext && !is_near(&parsed.host) {
            return Err(refuse(
                "the server is on another machine, and this version speaks no TLS: say `plaintext=on` if the network between is trusted",
            ));
        }
        Ok(parsed)
    }
}

/// `host`, `host:port` or `[address]:port`.
fn server(text: &str) -> Result<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (address, port.strip_prefix(':')),
        Some(_) => return Err(refuse("what stands in brackets is no address")),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let tidy = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(tidy) {
        return Err(refuse("a host is missing, or holds a character that no host has; there is one server"));
    }
    let port = match port {
        None | Some("") => 6379,
        Some(port) => port.parse().map_err(|_| refuse("a port is no number up to 65535"))?,
    };
    Ok((host.to_owned(), port))
}

/// Whether a server is on this machine.
fn is_near(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn prefix(value: &str) -> Result<String> {
    let tidy = value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'));
    if tidy && (1..=64).contains(&value.len()) {
        return Ok(value.to_owned());
    }
    Err(refuse("prefix has 1 to 64 letters, digits, `_` and `-`"))
}

fn number(name: &str, value: &str) -> Result<u64> {
    let found = value.parse().ok().filter(|number| (1..=3_600).contains(number));
    found.ok_or_else(|| refuse(&format!("{name} is a number from 1 to 3600")))
}

fn decoded(text: &str) -> Result<String> {
    let text = crate::wire::decode_header_value(text).ok_or_else(|| refuse("what stands behind a `%` is no UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refuse("it holds a control character"));
    }
    Ok(text.into_owned())
}

fn refuse(text: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the redis URL cannot be used: {text}"))
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
        let parsed = RedisUrl::parse("redis://al%20ice:s%3Acret@a.example:6380/3?prefix=shop&timeout=9&plaintext=on").unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port, parsed.database), ("a.example", 6380, 3));
        assert_eq!((parsed.user.as_deref(), parsed.password.as_deref()), (Some("al ice"), Some("s:cret")));
        assert_eq!((parsed.prefix.as_str(), parsed.timeout.as_secs()), ("shop", 9));
        assert!(!format!("{parsed:?}").contains("cret"));
        let near = RedisUrl::parse("redis://:hunter2@[::1]").unwrap();
        assert_eq!((near.host.as_str(), near.port, near.user, near.database), ("::1", 6379, None, 0));
    }

    #[test]
    fn what_it_cannot_mean_is_told_without_any_value() {
        for (url, said) in [
            ("redis:hunter2", "redis://host"),
            ("rediss://u:hunter2@h", "TLS is not part"),
            ("redis://u:hunter2@h", "plaintext=on"),
            ("redis://", "host is missing"),
            ("redis://hunter2@h", "user:password"),
            ("redis://a,hunter2", "one server"),
            ("redis://u:hunter2@h:70000", "port"),
            ("redis://u:hunter2%ff@h", "no UTF-8"),
            ("redis://u:hunter2%0d%0aX@h", "control character"),
            ("redis://u:hun#ter2@h", "%23"),
            ("redis://h/hunter2", "number of a database"),
            ("redis://h?perfix=hunter2", "did you mean `prefix`?"),
            ("redis://h?what=hunter2", "there are connect_timeout"),
            ("redis://h?prefix=hunter2}", "letters, digits"),
            ("redis://h?timeout=hunter2", "from 1 to 3600"),
            ("redis://h?prefix=a&prefix=b", "twice"),
        ] {
            let error = RedisUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            assert!(text.contains(said) && !text.contains("unter2"), "{url}: {text}");
        }
    }
}
