//! The loop of a handler that takes one message per call.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice::from_ref;
use std::task::{Context, Poll, ready};

use super::attempt::{DROPPING, admit, attempt, guarded, interrupted, panicked, publish, undecodable};
use super::bind::{Calls, Progress, Stop};
use super::feed::Feed;
use super::outcome::Reply;

/// Takes deliveries until the feed has no more. Allocates nothing for a message.
pub(super) async fn run(mut calls: Box<dyn Calls + '_>, feed: &mut dyn Feed) {
    let mut reply = Reply::new();
    let by_id = calls.takes_all_by_id();
    loop {
        if poll_fn(|cx| feed.poll_run(by_id, cx)).await {
            run_lent(&mut *calls, feed, &mut reply).await;
            continue;
        }
        let Some(delivery) = poll_fn(|cx| feed.poll_next(cx)).await else { return };
        match admit(&mut *calls, feed, &delivery).await {
            Ok(key) => {
                attempt(&mut *calls, feed, from_ref(&delivery), &mut reply).await;
                feed.done(delivery, key, reply.take());
            }
            Err(ended) => feed.done(delivery, None, ended),
        }
    }
}

/// Works off a run, up to its end or to the first message that does not simply end well; that one is done with as well.
async fn run_lent(calls: &mut dyn Calls, feed: &mut dyn Feed, reply: &mut Reply) {
    let mut progress = Progress::default();
    let stopped = poll_fn(|cx| step(calls, feed, &mut progress, reply, cx)).await;
    feed.acked(progress.at, progress.filtered);
    if stopped && let Some((delivery, key)) = feed.take_lent() {
        if !reply.publish.is_empty() {
            publish(feed, from_ref(&delivery), reply).await;
        }
        feed.done(delivery, key, reply.take());
    }
}

/// One poll of a run, in one stretch of user code and under one guard: which message a panic belongs to, and where it was,
/// stands in `progress`. Answers whether the run stopped at a message before its end; the reply says what that came to.
fn step(calls: &mut dyn Calls, feed: &mut dyn Feed, progress: &mut Progress, reply: &mut Reply, cx: &mut Context<'_>) -> Poll<bool> {
    feed.in_user_code(true);
    let polled = catch_unwind(AssertUnwindSafe(|| calls.run(feed.lent(), progress, reply, cx)));
    match polled {
        Ok(Poll::Ready(Stop::End)) => {
            feed.in_user_code(false);
            feed.attempt_ends();
            return Poll::Ready(false);
        }
        Ok(Poll::Ready(Stop::Replied)) => {}
        Ok(Poll::Ready(Stop::Unreadable(unreadable))) => reply.fail(undecodable(&unreadable)),
        Ok(Poll::Pending) => {
            progress.watched = true;
            feed.in_user_code(false);
            if progress.at > 0 {
                // Finished neighbours are not held up by this attempt.
                feed.acked(std::mem::take(&mut progress.at), std::mem::take(&mut progress.filtered));
            }
            let interrupt = ready!(feed.poll_interrupt(cx));
            feed.in_user_code(true);
            reply.fail(interrupted(interrupt));
        }
        Err(panic) => reply.fail(panicked(progress.stage.place(), panic)),
    }
    let dropped = guarded(DROPPING, || calls.clear());
    feed.in_user_code(false);
    if let Err(panicked) = dropped {
        reply.fail_successes(&panicked);
        reply.publish.clear();
    }
    feed.attempt_ends();
    Poll::Ready(true)
}
