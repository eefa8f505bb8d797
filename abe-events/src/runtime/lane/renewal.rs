//! Renewing the leases of what a lane holds, while its handler waits.
//!
//! A handler that keeps its thread is not renewed: its lease ends, the message goes to another consumer, and the late verdict
//! is refused by token. A handler that never ends is stopped by its timeout, and its lease with it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::broker::{Consumer, Token};
use crate::error::Result;

type Renewing<'a> = Pin<Box<dyn Future<Output = Result<Vec<Token>>> + Send + 'a>>;

/// The leases of a lane.
pub(super) struct Renewal<'a> {
    consumer: &'a dyn Consumer,
    period: Duration,
    /// What is handed to the worker and not done.
    held: Vec<Token>,
    lost: Vec<Token>,
    timer: Pin<Box<Sleep>>,
    renewing: Option<Renewing<'a>>,
    /// When the renewal under way was begun, and the last one that succeeded.
    asked: Instant,
    renewed: Instant,
}

impl<'a> Renewal<'a> {
    pub(super) fn new(consumer: &'a dyn Consumer, lease: Duration) -> Self {
        // Two renewals may fail before the lease ends.
        let period = lease / 3;
        let now = Instant::now();
        Self {
            consumer,
            period,
            held: Vec::new(),
            lost: Vec::new(),
            timer: Box::pin(tokio::time::sleep(period)),
            renewing: None,
            asked: now,
            renewed: now,
        }
    }

    /// A delivery goes to the worker.
    pub(super) fn hold(&mut self, token: Token) {
        self.held.push(token);
    }

    /// A delivery is done.
    pub(super) fn let_go(&mut self, token: Token) {
        self.held.retain(|held| *held != token);
        self.lost.retain(|lost| *lost != token);
    }

    /// Whether a delivery belongs to somebody else by now.
    pub(super) fn is_lost(&self, token: Token) -> bool {
        self.lost.contains(&token)
    }

    /// Renews when it is time; ready when the worker holds something that is lost.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, waiting: impl Iterator<Item = Token>) -> Poll<()> {
        if self.renewing.is_none() && !crate::mutant::is("no-renewal") && self.timer.as_mut().poll(cx).is_ready() {
            self.begin(waiting);
        }
        self.poll_renewing(cx);
        if self.held.iter().any(|held| self.lost.contains(held)) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Lets a renewal that was begun come to its end, whether or not anything is held by now: it has a connection.
    pub(super) fn poll_underway(&mut self, cx: &mut Context<'_>) {
        if !crate::mutant::is("calls-left-alone") {
            self.poll_renewing(cx);
        }
    }

    fn poll_renewing(&mut self, cx: &mut Context<'_>) {
        if let Some(renewing) = &mut self.renewing
            && let Poll::Ready(renewed) = renewing.as_mut().poll(cx)
        {
            self.renewing = None;
            self.timer.as_mut().reset(Instant::now() + self.period);
            // Registers the timer for the next round.
            let _ = self.timer.as_mut().poll(cx);
            match renewed {
                Ok(lost) => {
                    self.lost.extend(lost);
                    self.renewed = self.asked;
                }
                Err(error) => tracing::warn!(consumer = ?self.consumer, %error, "leases were not renewed; tried again before they end"),
            }
        }
    }

    /// Asks for all that is held, and waits.
    fn begin(&mut self, waiting: impl Iterator<Item = Token>) {
        let tokens: Vec<Token> = self.held.iter().copied().chain(waiting).collect();
        let consumer = self.consumer;
        self.asked = Instant::now();
        self.renewing = Some(Box::pin(async move { consumer.renew(&tokens).await }));
    }

    /// Ready with whether all that is held is certainly still this lane's. A process that was stopped for a while cannot
    /// know it from its own clock's last tick: when the last renewal is too old, the broker is asked.
    pub(super) fn poll_certain(&mut self, cx: &mut Context<'_>, waiting: impl Iterator<Item = Token>) -> Poll<bool> {
        if self.renewed.elapsed() < self.period * 2 {
            return Poll::Ready(!self.held.iter().any(|held| self.lost.contains(held)));
        }
        if self.renewing.is_none() {
            self.begin(waiting);
        }
        if self.poll(cx, std::iter::empty()).is_ready() {
            return Poll::Ready(false);
        }
        match self.renewing {
            Some(_) => Poll::Pending,
            // Answered just now; without success the lease may have ended.
            None => Poll::Ready(self.renewed == self.asked),
        }
    }
}
