//! Receiving: how many deliveries a lane takes at once, and the pause after a broker's error.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::broker::{Answer, Consumer, Delivery, Local, Run};
use crate::error::{Error, ErrorKind, Result};
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
    /// The shorter way, where the subscription may go it.
    local: Option<&'a dyn Local>,
    lane: u32,
    receiving: Option<Receiving<'a>>,
    /// Whether a take is pending.
    taking: bool,
    pause: Option<Pin<Box<Sleep>>>,
    /// How many deliveries are asked for next.
    appetite: usize,
    least: usize,
    /// Whether other lanes could work on what this one takes.
    shared: bool,
    chunk_began: Option<Instant>,
    closed: bool,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(consumer: &'a dyn Consumer, local: Option<&'a dyn Local>, lane: u32, policy: &Policy) -> Self {
        let shared = policy.concurrency > 1;
        let least = policy.batch as usize;
        Self {
            consumer,
            local,
            lane,
            receiving: None,
            taking: false,
            pause: None,
            appetite: if shared { least } else { least.max(APPETITE_MAX) },
            least,
            shared,
            chunk_began: None,
            closed: false,
        }
    }

    /// The lane's number.
    pub(super) fn lane(&self) -> u32 {
        self.lane
    }

    /// A handler of this lane waited: what it took meanwhile would wait with it, so it takes one (batch) at a time.
    pub(super) fn was_pending(&mut self) {
        if self.shared {
            self.appetite = self.least;
            self.chunk_began = None;
        }
    }

    /// Deliveries into `into`, or messages into `run`: `true` when there are some, `false` when the consumer is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, into: &mut VecDeque<Delivery>, run: &mut Run) -> Poll<bool> {
        loop {
            if self.closed {
                return Poll::Ready(false);
            }
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Some(local) = self.local {
                if !self.taking {
                    self.adapt();
                }
                let mut deliveries = std::mem::take(into).into();
                let taken = local.poll_take(self.lane, self.appetite, run, &mut deliveries, cx);
                *into = deliveries.into();
                self.taking = taken.is_pending();
                match std::task::ready!(taken) {
                    Ok(()) if into.is_empty() && run.is_empty() => continue,
                    Ok(()) => return Poll::Ready(true),
                    Err(error) => self.refused(&error),
                }
                continue;
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
                    match self.consumer.receive(self.lane, self.appetite, std::mem::take(into).into()).at_hand() {
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
                Err(error) => self.refused(&error),
            }
        }
    }

    #[cold]
    fn refused(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Closed {
            self.closed = true;
        } else {
            tracing::warn!(consumer = ?self.consumer, %error, "receiving failed, and is tried again");
            self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        }
    }

    /// Gives up receiving; what an answer had taken is released by the broker.
    pub(super) fn cancel(&mut self) {
        if std::mem::take(&mut self.taking)
            && let Some(local) = self.local
        {
            local.stop_taking(self.lane);
        }
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

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.cancel();
    }
}
