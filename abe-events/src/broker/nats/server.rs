//! The conversation with the server: one connection, and a bound on every answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Request, Subject};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::error::{Fault, Refusal};
use super::url::{Login, NatsUrl};
use crate::error::{Error, ErrorKind, Result};

/// How often the server is asked whether it is there; after three times without an answer the connection is given up.
const PING: Duration = Duration::from_secs(3);

/// The longest pause before the next try to connect again.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// How many publishes may wait for their answers.
const PUBLISHES_MAX: usize = 4_096;

/// How often a connection was made, and whether there is one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connected {
    pub(super) times: u64,
    pub(super) now: bool,
}

/// A connection that comes back by itself.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) client: Client,
    context: Context,
    pub(super) timeout: Duration,
    pub(super) connected: watch::Receiver<Connected>,
}

/// What JetStream's API answers.
#[derive(Deserialize)]
struct Reply {
    error: Option<Refusal>,
}

/// Where a message was stored.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) seq: u64,
}

impl Server {
    pub(super) async fn connect(url: &NatsUrl) -> Result<Self> {
        let (tell, connected) = watch::channel(Connected { times: 1, now: true });
        let on_event = move |event: Event| {
            match event {
                Event::Connected => tell.send_modify(|connected| (connected.times, connected.now) = (connected.times + 1, true)),
                Event::Disconnected | Event::Closed => tell.send_modify(|connected| connected.now = false),
                // The others are told by what fails.
                _ => {}
            }
            async {}
        };
        let mut options = ConnectOptions::new()
            .name("abe-events")
            .require_tls(url.tls)
            .ping_interval(PING)
            .connection_timeout(url.connect_timeout)
            .request_timeout(Some(url.timeout))
            .reconnect_delay_callback(|tries| RECONNECT_MAX.min(Duration::from_millis(50 << tries.min(6))))
            .event_callback(on_event);
        options = match url.login.clone() {
            Login::Nobody => options,
            Login::Token(token) => options.token(token),
            Login::User(user, password) => options.user_and_password(user, password),
        };
        if let Some(path) = &url.tls_ca {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((cert, key)) = &url.tls_cert {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        let scheme = if url.tls { "tls" } else { "nats" };
        let addresses: Vec<String> = url.servers.iter().map(|server| format!("{scheme}://{server}")).collect();
        let late = |_| Error::new(ErrorKind::Broker, "nats: no server answers in time");
        let connecting = tokio::time::timeout(url.connect_timeout * 2, options.connect(addresses.as_slice()));
        let client = connecting.await.map_err(late)?.map_err(|error| refused(error.kind()))?;
        let context = ContextBuilder::new().timeout(url.timeout).max_ack_inflight(PUBLISHES_MAX).build(client.clone());
        Ok(Self { client, context, timeout: url.timeout, connected })
    }

    /// The largest message the server takes, its headers included.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    /// Until there is a connection; what was not sent is certainly not carried out.
    pub(super) async fn ready(&self) -> Result<(), Fault> {
        let mut connected = self.connected.clone();
        let waiting = tokio::time::timeout(self.timeout, connected.wait_for(|connected| connected.now));
        match waiting.await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Fault::Unsent("there is no connection to a server")),
        }
    }

    /// A request and its answer.
    pub(super) async fn ask(&self, subject: Subject, payload: Bytes) -> Result<Bytes, Fault> {
        self.ask_with(subject, None, payload).await
    }

    async fn ask_with(&self, subject: Subject, headers: Option<HeaderMap>, payload: Bytes) -> Result<Bytes, Fault> {
        self.ready().await?;
        let mut request = Request::new().payload(payload).timeout(Some(self.timeout));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let asked = tokio::time::timeout(self.timeout * 2, self.client.send_request(subject, request));
        let answer = asked.await.map_err(|_late| Fault::Cut)?;
        Ok(answer.map_err(|error| Fault::of_request(error.kind()))?.payload)
    }

    /// A request to JetStream's API.
    pub(super) async fn api<T: DeserializeOwned>(&self, subject: String, request: &serde_json::Value) -> Result<T, Fault> {
        let payload = if request.is_null() { Bytes::new() } else { request.to_string().into() };
        let answer = self.ask(format!("$JS.API.{subject}").into(), payload).await?;
        read(&answer)
    }

    /// Stores one message, and waits until it is.
    pub(super) async fn store(&self, subject: String, headers: Option<HeaderMap>, payload: Bytes) -> Result<u64, Fault> {
        let answer = self.ask_with(subject.into(), headers, payload).await?;
        read::<Stored>(&answer).map(|stored| stored.seq)
    }

    /// Sends a message to be stored; what is sent later is stored later.
    pub(super) async fn send(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<PublishAckFuture, Fault> {
        let message = PublishMessage::build().headers(headers).payload(payload);
        self.context.send_publish(subject, message).await.map_err(|error| Fault::of_publish(&error))
    }

    /// Whether what was sent is stored; then where.
    pub(super) async fn stored(&self, ack: PublishAckFuture, deadline: Instant) -> Result<u64, Fault> {
        match timeout_at(deadline, ack).await {
            Ok(Ok(ack)) => Ok(ack.sequence),
            Ok(Err(error)) => Err(Fault::of_publish(&error)),
            Err(_late) => Err(Fault::Cut),
        }
    }

    /// The last message of a subject, as the stream's leader has it.
    pub(super) async fn last(&self, stream: &str, subject: String) -> Result<Option<StreamMessage>, Fault> {
        self.find(stream, subject, None).await
    }

    /// The first message from a number on whose subject matches.
    pub(super) async fn next(&self, stream: &str, subject: String, from: u64) -> Result<Option<StreamMessage>, Fault> {
        self.find(stream, subject, Some(from)).await
    }

    async fn find(&self, stream: &str, subject: String, from: Option<u64>) -> Result<Option<StreamMessage>, Fault> {
        self.ready().await?;
        let looking = async {
            let unsent = |_| Fault::Unsent("a stream's name is not allowed");
            let stream = self.context.get_stream_no_info(stream).await.map_err(unsent)?;
            let builder = stream.raw_message_builder();
            let found = match from {
                None => builder.last_by_subject(subject).send().await,
                Some(from) => builder.sequence(from).next_by_subject(subject).send().await,
            };
            match found.map_err(|error| Fault::of_read(&error)) {
                Ok(message) => Ok(Some(message)),
                Err(fault) if fault.is(super::error::NO_MESSAGE) => Ok(None),
                Err(fault) => Err(fault),
            }
        };
        tokio::time::timeout(self.timeout * 2, looking).await.map_err(|_late| Fault::Cut)?
    }

    /// Takes one message out of a stream; says whether it was there.
    pub(super) async fn delete(&self, stream: &str, sequence: u64) -> Result<bool, Fault> {
        let request = serde_json::json!({ "seq": sequence, "no_erase": true });
        match self.api::<serde_json::Value>(format!("STREAM.MSG.DELETE.{stream}"), &request).await {
            Ok(_) => Ok(true),
            // "No message found", which this call says by a code of its own.
            Err(Fault::Refused(10_037 | 10_043 | 10_057 | 404, _)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Fault> {
    if let Ok(Reply { error: Some(refusal) }) = serde_json::from_slice::<Reply>(answer) {
        return Err(Fault::of_refusal(&refusal));
    }
    // What cannot be read may have been carried out.
    serde_json::from_slice(answer).map_err(|_| Fault::Cut)
}

fn refused(kind: ConnectErrorKind) -> Error {
    let text = match kind {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => "the server refuses the user, password or token",
        ConnectErrorKind::Tls => "no encrypted connection can be made; see `tls` and `tlscacert`",
        ConnectErrorKind::Dns | ConnectErrorKind::ServerParse => "the host's name is not known",
        ConnectErrorKind::TimedOut => "no server answers in time",
        ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => "no server can be reached",
    };
    Error::new(ErrorKind::Broker, format!("nats: {text}"))
}

/// A time of the server's in milliseconds.
pub(super) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
