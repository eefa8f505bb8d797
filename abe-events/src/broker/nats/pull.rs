//! One request for messages, until it is answered or ends.

use std::future::pending;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::error::Fault;
use super::names::Place;

/// How long the server keeps a request.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often it says that it still does.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How long nothing may be heard; then the request is believed lost.
const SILENCE: Duration = Duration::from_secs(8);

/// How long the rest is waited for that the server has said is there.
const GATHER: Duration = Duration::from_millis(5);

/// How long what is on its way is waited for.
const DRAIN: Duration = Duration::from_secs(1);

const HEARTBEAT_STATUS: u16 = 100;
const TIMED_OUT: u16 = 408;
const CONFLICT: u16 = 409;

/// A request.
#[derive(Debug)]
pub(super) struct Pull {
    answers: Subscriber,
    /// How many messages may still come.
    left: usize,
    heard: Instant,
    got: Vec<Message>,
    end: Option<End>,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All that was asked for has come, or it was waited for long enough.
    Done,
    /// The server has said nothing for too long.
    Silent,
    /// The server does not take it, or takes it no longer.
    Refused,
}

/// What came.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) messages: Vec<Message>,
    pub(super) end: Option<End>,
}

impl Pull {
    pub(super) async fn begin(shared: &Shared, place: &Place, count: usize, bytes: usize) -> Result<Self, Fault> {
        let server = &shared.server;
        server.ready().await?;
        let request = serde_json::json!({
            "batch": count,
            "max_bytes": bytes.max(server.message_bytes_max() + 16 * 1024),
            "expires": EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        let inbox = server.client.new_inbox();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", shared.names.events, place.consumer);
        let unsent = Fault::Unsent("the client does not take a request");
        let asking = async {
            let answers = server.client.subscribe(inbox.clone()).await.map_err(|_| unsent.clone())?;
            server.client.publish_with_reply(subject, inbox, request.to_string().into()).await.map_err(|_| unsent.clone())?;
            Ok(answers)
        };
        let answers = timeout(server.timeout, asking).await.map_err(|_late| Fault::Cut)??;
        Ok(Self { answers, left: count, heard: Instant::now(), got: Vec::new(), end: None })
    }

    /// What comes next; never, without a request.
    ///
    /// Dropped while it waits, it keeps what it has.
    pub(super) async fn next(pull: &mut Option<Self>) -> Pulled {
        match pull {
            None => pending().await,
            Some(pull) => pull.gather().await,
        }
    }

    async fn gather(&mut self) -> Pulled {
        let mut until = self.heard + SILENCE;
        while self.end.is_none() {
            if self.left == 0 {
                self.end = Some(End::Done);
                break;
            }
            // What is there already is taken at once.
            let next = match self.answers.next().now_or_never() {
                Some(next) => next,
                None if self.got.last().is_some_and(|last| !has_more(last)) => break,
                None => match timeout_at(until, self.answers.next()).await {
                    Ok(next) => next,
                    Err(_late) if !self.got.is_empty() => break,
                    Err(_late) => {
                        self.end = Some(End::Silent);
                        break;
                    }
                },
            };
            match next {
                None => self.end = Some(End::Refused),
                Some(message) => self.heard(message),
            }
            until = if self.got.is_empty() { self.heard + SILENCE } else { Instant::now() + GATHER };
        }
        Pulled { messages: std::mem::take(&mut self.got), end: self.end }
    }

    fn heard(&mut self, message: Message) {
        self.heard = Instant::now();
        match message.status.map(|status| status.as_u16()) {
            None => {
                self.left -= 1;
                self.got.push(message);
            }
            Some(HEARTBEAT_STATUS) => {}
            Some(TIMED_OUT) => self.end = Some(End::Done),
            // The next message is larger than what is left of the bytes asked for.
            Some(CONFLICT) if message.description.as_deref().is_some_and(|said| said.contains("MaxBytes")) => self.end = Some(End::Done),
            Some(_) => self.end = Some(End::Refused),
        }
    }

    /// Takes the request back, and answers what was on its way.
    pub(super) async fn finish(mut self) -> Vec<Message> {
        if self.end.is_none() && self.left > 0 && self.answers.drain().await.is_ok() {
            let deadline = Instant::now() + DRAIN;
            while let Ok(Some(message)) = timeout_at(deadline, self.answers.next()).await {
                if message.status.is_none() {
                    self.got.push(message);
                }
            }
        }
        self.got
    }
}

/// Whether the server had more when it sent this; its last number tells.
fn has_more(message: &Message) -> bool {
    message.reply.as_ref().and_then(|reply| super::ack::Ack::parse(reply)).is_some_and(|ack| ack.pending > 0)
}
