//! Receiving: how many deliveries a lane takes at once, and the pause after a broker's error.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::broker::{Answer, Consumer, Delivery};
use crate::error::{ErrorKind, Result};
use crate::policy::Policy;

/// How many deliveries a lane takes at most, unless a batch is larger.
const APPETITE_MAX: usize = 64;

/// How long a lane may work on what it took while other lanes have nothing: beyond, it takes less.
const CHUNK_TIME_MAX: Duration = Duration::from_micros(200);

/// The pause after an error of the broker.
const PAUSE: Duration = Duration::from_millis(200);

type Receiving<'a> = Answer<'a, Result<Vec<Delivery>>>;

/// A lane's receiving end.
pub(super) struct Fetch<'a> {
    consumer: &'a dyn Consumer,
    lane: u32,
    receiving: Option<Receiving<'a>>,
    pause: Option<Pin<Box<Sleep>>>,
    /// How many deliveries are asked for next.
    appetite: usize,
    least: usize,
    /// Whether other lanes could work on what this one takes.
    shared: bool,
    chunk_began: Option<Instant>,
    /// Whether the next call asks for a single delivery.
    one_next: bool,
    closed: bool,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(consumer: &'a dyn Consumer, lane: u32, policy: &Policy) -> Self {
        let shared = policy.concurrency > 1;
        let least = policy.batch as usize;
        Self {
            consumer,
            lane,
            receiving: None,
            pause: None,
            appetite: if shared { least } else { least.max(APPETITE_MAX) },
            least,
            shared,
            chunk_began: None,
            one_next: false,
            closed: false,
        }
    }

    /// A handler of this lane waited: what it took meanwhile would wait with it, so it takes one (batch) at a time.
    pub(super) fn was_pending(&mut self) {
        if self.shared {
            self.appetite = self.least;
            self.chunk_began = None;
        }
    }

    /// What comes may have to run alone: the next call takes a single delivery.
    pub(super) fn take_one_next(&mut self) {
        self.one_next = true;
    }

    /// Deliveries into `into`: `true` when there are some, `false` when the consumer is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, into: &mut VecDeque<Delivery>) -> Poll<bool> {
        loop {
            if self.closed {
                return Poll::Ready(false);
            }
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let received = match &mut self.receiving {
                Some(receiving) => {
                    let received = std::task::ready!(Pin::new(receiving).poll(cx));
                    self.receiving = None;
                    received
                }
                None => {
                    self.adapt();
                    // The emptied queue's memory goes round: queue → vector → broker → queue.
                    let max = if std::mem::take(&mut self.one_next) { 1 } else { self.appetite };
                    match self.consumer.receive(self.lane, max, std::mem::take(into).into()).at_hand() {
                        Ok(received) => received,
                        Err(receiving) => {
                            self.receiving = Some(receiving);
                            continue;
                        }
                    }
                }
            };
            match received {
                Ok(deliveries) if deliveries.is_empty() => {}
                Ok(deliveries) => {
                    *into = deliveries.into();
                    return Poll::Ready(true);
                }
                Err(error) if error.kind() == ErrorKind::Closed => self.closed = true,
                Err(error) => {
                    tracing::warn!(consumer = ?self.consumer, %error, "receiving failed, and is tried again");
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }

    /// Gives up receiving; what an answer had taken is released by the broker.
    pub(super) fn cancel(&mut self) {
        self.receiving = None;
    }

    /// Takes more while handlers are quick and less when they are not, so that ready handlers share a call and slow ones
    /// leave the rest to other lanes. One clock read per call, not per message.
    fn adapt(&mut self) {
        if !self.shared {
            return;
        }
        let now = Instant::now();
        match self.chunk_began.replace(now) {
            Some(began) if now.duration_since(began) > CHUNK_TIME_MAX => self.appetite = (self.appetite / 2).max(self.least),
            Some(_) => self.appetite = (self.appetite * 2).min(APPETITE_MAX.max(self.least)),
            None => {}
        }
    }
}
