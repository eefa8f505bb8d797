//! `postgres://user:password@host:port/database?schema=abe_events`: where a server is, and how it is to be used.
//!
//! What a URL leaves out comes from the environment and the password file, as with every PostgreSQL client. No error repeats
//! a value, for it may be a password.

use std::net::IpAddr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::nearest::nearest;
use crate::error::{Error, ErrorKind, Result};

/// The schema of our tables, unless the URL names one.
pub(crate) const SCHEMA: &str = "abe_events";

/// What every user of the server understands; each may have parameters of its own.
const PARAMETERS: [&str; 11] = [
    "application_name",
    "connect_timeout",
    "connections",
    "host",
    "migrate",
    "pooler",
    "schema",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// What a URL says.
#[derive(Clone)]
pub(crate) struct PostgresUrl {
    pub(crate) options: PgConnectOptions,
    /// An identifier that needs no escape.
    pub(crate) schema: String,
    /// Whether tables are made and changed at the start; otherwise they are only looked at.
    pub(crate) migrate: bool,
    /// Whether a pooler hands each transaction to any session, so that none keeps anything.
    pub(crate) pooler: bool,
    /// How many connections there may be at once.
    pub(crate) connections: u32,
    pub(crate) connect_timeout: Duration,
    /// Parameters of whoever asked for them, by name.
    pub(crate) own: Vec<(&'static str, String)>,
}

// A URL may tell what must not reach a log.
impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresUrl").field("schema", &self.schema).field("pooler", &self.pooler).finish_non_exhaustive()
    }
}

impl PostgresUrl {
    /// Reads a URL. `own` are the parameters that this user of it has beside the usual ones.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for what it cannot mean, without any value of it.
    pub(crate) fn parse(url: &str, own: &[&'static str]) -> Result<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| refuse("it is `postgres://user@host:port/database`".to_owned()))?;
        if rest.contains('#') {
            return Err(refuse("a `#` in a user, password or name is written `%23`".to_owned()));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parsed = Self {
            options: server(place)?,
            schema: SCHEMA.to_owned(),
            migrate: true,
            pooler: false,
            connections: 8,
            connect_timeout: Duration::from_secs(10),
            own: Vec::new(),
        };
        let mut seen = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if seen.contains(&name) {
                return Err(refuse(format!("the parameter {} stands twice", quoted(name))));
            }
            seen.push(name);
            let value = decoded(value)?;
            match own.iter().find(|own| **own == name) {
                Some(own) => parsed.own.push((own, value)),
                None => parsed.set(name, &value, own)?,
            }
        }
        parsed.protect(seen.contains(&"sslmode"));
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str, own: &[&'static str]) -> Result<()> {
        let options = self.options.clone();
        match name {
            "schema" => self.schema = schema(value)?,
            "migrate" => self.migrate = on_or_off("migrate", value)?,
            "pooler" => self.pooler = one_of("pooler", value, &["none", "transaction"])? == 1,
            "connections" => self.connections = number("connections", value, 2..=1_000)?,
            "connect_timeout" => self.connect_timeout = Duration::from_secs(number("connect_timeout", value, 1..=3_600)?.into()),
            "host" if value.starts_with('/') => self.options = options.socket(value),
            "host" => return Err(refuse("`host` is the folder of a socket, as in `host=/run/postgresql`".to_owned())),
            "application_name" => self.options = options.application_name(value),
            "sslmode" => {
                one_of("sslmode", value, &SSL_MODES)?;
                let mode = value.parse().map_err(|_| refuse("sslmode is none".to_owned()))?;
                self.options = options.ssl_mode(mode);
            }
            "sslrootcert" => self.options = options.ssl_root_cert(value),
            "sslcert" => self.options = options.ssl_client_cert(value),
            "sslkey" => self.options = options.ssl_client_key(value),
            _ => {
                let known: Vec<&'static str> = PARAMETERS.iter().chain(own).copied().collect();
                return Err(refuse(format!("there is no parameter {}{}", quoted(name), meant(name, &known))));
            }
        }
        Ok(())
    }

    /// A server elsewhere is reached with TLS, and its certificate and name are verified, unless the URL or the environment
    /// says what to do.
    fn protect(&mut self, chosen: bool) {
        if chosen || std::env::var_os("PGSSLMODE").is_some() {
            return;
        }
        let near = is_near(&self.options);
        let mode = if near { PgSslMode::Prefer } else { PgSslMode::VerifyFull };
        self.options = self.options.clone().ssl_mode(mode);
    }
}

/// Whether a server is on this machine.
fn is_near(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `user:password@host:port/database`, each part optional.
fn server(place: &str) -> Result<PgConnectOptions> {
    let mut options = PgConnectOptions::new();
    let (server, database) = place.split_once('/').unwrap_or((place, ""));
    if !database.is_empty() {
        options = options.database(&decoded(database)?);
    }
    let (user, host) = server.rsplit_once('@').unwrap_or(("", server));
    let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
    if !user.is_empty() {
        options = options.username(&decoded(user)?);
    }
    if let Some(password) = password {
        options = options.password(&decoded(password)?);
    }
    // An address of version 6 stands in brackets and holds colons.
    let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    if host.contains(',') {
        return Err(refuse("it names one host; several are not supported".to_owned()));
    }
    if !host.is_empty() {
        let host = decoded(host)?;
        options = if host.starts_with('/') { options.socket(host) } else { options.host(&host) };
    }
    match port {
        None | Some("") => Ok(options),
        Some(port) => Ok(options.port(port.parse().map_err(|_| refuse("the port is no number up to 65535".to_owned()))?)),
    }
}

fn schema(value: &str) -> Result<String> {
    let mut letters = value.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let tidy = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if begins && tidy && value.len() <= 63 && !value.starts_with("pg_") && value != "information_schema" {
        return Ok(value.to_owned());
    }
    Err(refuse("schema is a name of 1 to 63 small letters, digits and `_` that does not begin with a digit or `pg_`".to_owned()))
}

/// `on` or `off`.
pub(crate) fn on_or_off(name: &str, value: &str) -> Result<bool> {
    Ok(one_of(name, value, &["off", "on"])? == 1)
}

/// The place of a value among those there are.
pub(crate) fn one_of(name: &str, value: &str, known: &[&'static str]) -> Result<usize> {
    let found = known.iter().position(|known| *known == value);
    found.ok_or_else(|| refuse(format!("{name} is one of {}{}", known.join(", "), nearer(value, known))))
}

/// A number within bounds.
pub(crate) fn number(name: &str, value: &str, bounds: std::ops::RangeInclusive<u32>) -> Result<u32> {
    let found = value.parse().ok().filter(|number| bounds.contains(number));
    found.ok_or_else(|| refuse(format!("{name} is a number from {} to {}", bounds.start(), bounds.end())))
}

fn decoded(text: &str) -> Result<String> {
    let text = crate::wire::decode_header_value(text).ok_or_else(|| refuse("what stands behind a `%` is no UTF-8".to_owned()))?;
    if text.contains('\0') {
        return Err(refuse("it holds a NUL".to_owned()));
    }
    Ok(text.into_owned())
}

fn refuse(text: String) -> Error {
    Error::new(ErrorKind::Config, format!("the postgres URL cannot be used: {text}"))
}

fn nearer(given: &str, known: &[&'static str]) -> String {
    nearest(given, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

fn meant(given: &str, known: &[&'static str]) -> String {
    let near = nearer(given, known);
    if near.is_empty() { format!("; there are {}", known.join(", ")) } else { near }
}

fn quoted(name: &str) -> String {
    format!("{:?}", name.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_asks_for_is_understood() {
        let url =
            "postgres://al%20ice:s%3Acret@db.example:6543/my%2Dshop?schema=shop_events&migrate=off&pooler=transaction&connections=3&poll=1";
        let parsed = PostgresUrl::parse(url, &["poll"]).unwrap();
        let options = &parsed.options;
        assert_eq!((options.get_host(), options.get_port(), options.get_username()), ("db.example", 6543, "al ice"));
        assert_eq!((options.get_database(), parsed.schema.as_str()), (Some("my-shop"), "shop_events"));
        assert!(!parsed.migrate && parsed.pooler && parsed.connections == 3);
        assert_eq!(parsed.own, [("poll", "1".to_owned())]);
        assert!(!format!("{parsed:?}").contains("cret"));
        let six = PostgresUrl::parse("postgresql://[::1]:5433/a", &[]).unwrap();
        assert_eq!((six.options.get_host(), six.options.get_port(), six.schema.as_str()), ("::1", 5433, SCHEMA));
    }

    #[test]
    fn a_server_elsewhere_is_verified_unless_told_otherwise() {
        for (url, verified) in [
            ("postgres://db.example/a", true),
            ("postgres://10.1.2.3/a", true),
            ("postgres://db.example/a?sslmode=require", false),
            ("postgres://127.0.0.1/a", false),
            ("postgres://[::1]/a", false),
            ("postgres://localhost/a", false),
            ("postgres:///a?host=/run/postgresql", false),
        ] {
            let parsed = PostgresUrl::parse(url, &[]).unwrap();
            assert_eq!(matches!(parsed.options.get_ssl_mode(), PgSslMode::VerifyFull), verified, "{url}");
        }
    }

    #[test]
    fn what_it_cannot_mean_is_told_without_any_value() {
        for (url, said) in [
            ("postgres:hunter2", "postgres://user@host"),
            ("postgres://u:hunter2@h:70000/a", "port"),
            ("postgres://u:hunter2@h1,h2/a", "one host"),
            ("postgres://u:hunter2%ff@h/a", "no UTF-8"),
            ("postgres://u:hunter2%00@h/a", "NUL"),
            ("postgres://u:hun#ter2@h/a", "%23"),
            ("postgres://h/a?shema=hunter2", "did you mean `schema`?"),
            ("postgres://h/a?what=hunter2", "there are application_name"),
            ("postgres://h/a?schema=Hunter2", "small letters"),
            ("postgres://h/a?schema=a\"b", "small letters"),
            ("postgres://h/a?schema=pg_hunter2", "pg_"),
            ("postgres://h/a?sslmode=requir", "did you mean `require`?"),
            ("postgres://h/a?migrate=hunter2", "migrate is one of off, on"),
            ("postgres://h/a?connections=1", "from 2"),
            ("postgres://h/a?pooler=session", "none, transaction"),
            ("postgres://h/a?migrate=on&migrate=off", "twice"),
        ] {
            let error = PostgresUrl::parse(url, &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            assert!(text.contains(said) && !text.contains("unter2"), "{url}: {text}");
        }
    }
}
