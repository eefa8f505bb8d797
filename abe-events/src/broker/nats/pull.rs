//! One request for messages, until it is answered or ends.
//!
//! A request that stayed with the server after a part of its messages had come might be answered when nobody waits any more. So
//! each is of the kind that waits for the first and ends with the last that is there (`no_wait` and `expires` together).

use std::future::pending;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::error::Fault;
use super::names::Place;

/// How long the server keeps a request for which there is nothing.
const EXPIRES: Duration = Duration::from_secs(10);

/// How much later than that the server may say that the time is over; then the request is believed lost.
const SILENCE: Duration = Duration::from_secs(3);

/// How long the next is waited for, or the word that there is none.
const GATHER: Duration = Duration::from_millis(5);

const NOTHING: u16 = 404;
const TIMED_OUT: u16 = 408;
const CONFLICT: u16 = 409;

/// A request.
#[derive(Debug)]
pub(super) struct Pull {
    client: Client,
    inbox: String,
    /// A question to the API whose answer is of no interest.
    question: String,
    answers: Subscriber,
    /// How many messages may still come, and how many have.
    left: usize,
    came: u64,
    /// When its end must have been told.
    until: Instant,
    got: Vec<Message>,
    end: Option<End>,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All that was asked for has come, or the time is over.
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
            "no_wait": true,
            "expires": EXPIRES.as_nanos() as u64,
        });
        let (client, inbox) = (server.client.clone(), server.client.new_inbox());
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", shared.names.events, place.consumer);
        let unsent = || Fault::Unsent("the client does not take a request");
        let asking = async {
            let answers = client.subscribe(inbox.clone()).await.map_err(|_| unsent())?;
            client.publish_with_reply(subject, inbox.clone(), request.to_string().into()).await.map_err(|_| unsent())?;
            Ok(answers)
        };
        let answers = timeout(server.timeout, asking).await.map_err(|_late| Fault::Cut)??;
        let question = format!("$JS.API.CONSUMER.INFO.{}.{}", shared.names.events, place.consumer);
        let until = Instant::now() + EXPIRES + SILENCE;
        Ok(Self { client, inbox, question, answers, left: count, came: 0, until, got: Vec::new(), end: None })
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
        while self.end.is_none() {
            if self.left == 0 {
                self.end = Some(End::Done);
                break;
            }
            // What is there already is taken at once.
            let next = match self.answers.next().now_or_never() {
                Some(next) => next,
                None => {
                    let until = if self.got.is_empty() { self.until } else { Instant::now() + GATHER };
                    match timeout_at(until, self.answers.next()).await {
                        Ok(next) => next,
                        Err(_late) if !self.got.is_empty() => break,
                        Err(_late) => {
                            self.end = Some(End::Silent);
                            break;
                        }
                    }
                }
            };
            self.heard(next);
        }
        Pulled { messages: std::mem::take(&mut self.got), end: self.end }
    }

    fn heard(&mut self, next: Option<Message>) {
        let Some(message) = next else {
            self.end = Some(End::Refused);
            return;
        };
        match message.status.map(|status| status.as_u16()) {
            None => {
                (self.left, self.came) = (self.left.saturating_sub(1), self.came + 1);
                self.got.push(message);
            }
            Some(NOTHING | TIMED_OUT) => self.end = Some(End::Done),
            // The next message is larger than what is left of the bytes asked for.
            Some(CONFLICT) if message.description.as_deref().is_some_and(|said| said.contains("MaxBytes")) => self.end = Some(End::Done),
            Some(_) => self.end = Some(End::Refused),
        }
    }

    /// Ends the request, and answers what was on its way.
    ///
    /// A client that unsubscribes throws away what comes before the server knows. Here the server is made to say as much as is
    /// still subscribed to, behind whatever it has sent before; then it knows, and nothing is thrown away.
    pub(super) async fn finish(mut self, patience: Duration) -> Vec<Message> {
        let deadline = Instant::now() + patience.min(SILENCE);
        while let Some(next) = self.answers.next().now_or_never().filter(|_| self.end.is_none()) {
            self.heard(next);
        }
        // One of which a part has come ends by itself.
        if self.came == 0 && self.end.is_none() && self.answers.unsubscribe_after(2).await.is_ok() {
            for _ in 0..2 {
                let _ = self.client.publish_with_reply(self.question.clone(), self.inbox.clone(), bytes::Bytes::new()).await;
            }
        }
        while self.end.is_none() && self.left > 0 {
            match timeout_at(deadline, self.answers.next()).await {
                // The answer to a question, which came by no delivery.
                Ok(Some(message)) if message.status.is_none() && message.reply.is_none() => {}
                Ok(Some(message)) => self.heard(Some(message)),
                Ok(None) | Err(_) => break,
            }
        }
        self.got
    }
}
