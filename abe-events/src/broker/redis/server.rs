//! The conversation with the server: one connection that is made anew when it ends, and a bound on every answer.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::error::Fault;
use super::reply;
use super::url::RedisUrl;
use crate::error::{Error, ErrorKind, Result};

/// The longest pause before the next try to connect again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// What runs on the server, each behind what all share.
#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    Publish,
    Claim,
    Settle,
    Renew,
    Subscribe,
    Letters,
}

const SCRIPTS: [&str; 6] = [
    concat!(include_str!("lua/common.lua"), include_str!("lua/publish.lua")),
    concat!(include_str!("lua/common.lua"), include_str!("lua/claim.lua")),
    concat!(include_str!("lua/common.lua"), include_str!("lua/settle.lua")),
    concat!(include_str!("lua/common.lua"), include_str!("lua/renew.lua")),
    concat!(include_str!("lua/common.lua"), include_str!("lua/subscribe.lua")),
    concat!(include_str!("lua/common.lua"), include_str!("lua/letters.lua")),
];

/// A mutant, and what it takes out of the scripts.
const MUTANTS: [(&str, &str, &str); 5] = [
    ("redis-attempt-uncounted", "attempts + 1", "attempts"),
    ("redis-bury-apart", "if refused then return refused end", ""),
    ("redis-delay-ignored", "due = now + delay + 1", "due = now"),
    ("redis-order-off", "return first == id", "return true"),
    ("redis-token-unchecked", "if holder ~= token then return 0 end", ""),
];

/// A connection that is made anew when it ends.
pub(super) struct Server {
    pub(super) client: Client,
    config: AsyncConnectionConfig,
    pub(super) timeout: Duration,
    connect_timeout: Duration,
    link: Mutex<Linked>,
}

#[derive(Default)]
struct Linked {
    link: Option<Link>,
    made: u64,
}

#[derive(Clone)]
struct Link {
    number: u64,
    connection: MultiplexedConnection,
    /// What the server calls our scripts.
    scripts: Vec<String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) async fn connect(url: &RedisUrl) -> Result<Self> {
        let mut settings = RedisConnectionInfo::default().set_db(url.database).set_skip_set_lib_name();
        if let Some(user) = &url.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &url.password {
            settings = settings.set_password(password);
        }
        let unusable = |_| Error::new(ErrorKind::Config, "redis: the URL cannot be used");
        let address = ConnectionAddr::Tcp(url.host.clone(), url.port).into_connection_info().map_err(unusable)?;
        let client = Client::open(address.set_redis_settings(settings)).map_err(unusable)?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(url.connect_timeout)).set_response_timeout(Some(url.timeout));
        let (timeout, connect_timeout) = (url.timeout, url.connect_timeout);
        let server = Self { client, config, timeout, connect_timeout, link: Mutex::default() };
        let link = server.link_once().await.map_err(|fault| fault.failed())?;
        server.link.lock().await.link = Some(link);
        Ok(server)
    }

    /// One try to connect.
    async fn link_once(&self) -> Result<Link, Fault> {
        let connecting = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
            let mut scripts = Vec::new();
            for text in SCRIPTS {
                scripts.push(load(&mut connection, text).await?);
            }
            Ok::<_, RedisError>(Link { number: 0, connection, scripts })
        };
        let connected = tokio::time::timeout(self.connect_timeout, connecting).await;
        let connected = connected.map_err(|_late| Fault::Unsent("no server answers in time"))?;
        connected.map_err(|error| match Fault::of(&error) {
            _ if error.kind() == ::redis::ErrorKind::AuthenticationFailed => Fault::Unsent("the server refuses the user or password"),
            Fault::Cut => Fault::Unsent("no server can be reached"),
            fault => fault,
        })
    }

    /// The connection; what was not sent is certainly not carried out.
    async fn link(&self) -> Result<Link, Fault> {
        let deadline = Instant::now() + self.timeout;
        let late = |_| Fault::Unsent("there is no connection to the server");
        let mut linked = timeout_at(deadline, self.link.lock()).await.map_err(late)?;
        if let Some(link) = &linked.link {
            return Ok(link.clone());
        }
        let mut pause = Duration::from_millis(50);
        loop {
            match timeout_at(deadline, self.link_once()).await.map_err(late)? {
                Ok(mut link) => {
                    linked.made += 1;
                    link.number = linked.made;
                    linked.link = Some(link.clone());
                    return Ok(link);
                }
                Err(_) if Instant::now() + pause < deadline => tokio::time::sleep(pause).await,
                Err(fault) => return Err(fault),
            }
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    /// A connection that failed is used no more; what others wait for on it runs out.
    async fn part(&self, number: u64) {
        let mut linked = self.link.lock().await;
        if linked.link.as_ref().is_some_and(|link| link.number == number) {
            linked.link = None;
        }
    }

    /// A command and its answer.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Fault> {
        let mut link = self.link().await?;
        self.answer(&mut link, command).await.map_err(|error| Fault::of(&error))
    }

    async fn answer(&self, link: &mut Link, command: &Cmd) -> Result<Value, RedisError> {
        let answer = link.connection.send_packed_command(command).await.and_then(Value::extract_error);
        if let Err(error) = &answer
            && (matches!(Fault::of(error), Fault::Cut) || error.code() == Some("READONLY"))
        {
            self.part(link.number).await;
        }
        answer
    }

    /// Runs a script: its prefix is the first of the arguments.
    pub(super) async fn run(&self, script: Script, records: &str, arguments: &[Arg<'_>]) -> Result<Vec<Value>, Fault> {
        let mut link = self.link().await?;
        let mut again = true;
        loop {
            let mut command = ::redis::cmd("EVALSHA");
            command.arg(&link.scripts[script as usize]).arg(1).arg(records);
            for argument in arguments {
                match argument {
                    Arg::Text(text) => command.arg(*text),
                    Arg::Bytes(bytes) => command.arg(*bytes),
                    Arg::Number(number) => command.arg(*number),
                };
            }
            match self.answer(&mut link, &command).await {
                Ok(Value::Array(values)) => return Ok(values),
                // An answer that is none of ours: something was done.
                Ok(_) => return Err(Fault::Cut),
                Err(error) if again && error.code() == Some("NOSCRIPT") => {
                    again = false;
                    for text in SCRIPTS {
                        load(&mut link.connection, text).await.map_err(|error| Fault::of(&error))?;
                    }
                }
                Err(error) => return Err(Fault::of(&error)),
            }
        }
    }
}

/// An argument of a script.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arg<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Number(u64),
}

async fn load(connection: &mut MultiplexedConnection, text: &str) -> Result<String, RedisError> {
    let mutant = MUTANTS.iter().find(|(name, ..)| crate::mutant::is(name));
    let text = mutant.map_or_else(|| text.to_owned(), |(_, sound, broken)| text.replace(sound, broken));
    let mut command = ::redis::cmd("SCRIPT");
    let name = connection.send_packed_command(command.arg("LOAD").arg(text)).await?.extract_error()?;
    Ok(reply::text(&name))
}
