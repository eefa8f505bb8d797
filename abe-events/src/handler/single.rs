//! The loop of a handler that takes one message per call.

use std::future::poll_fn;
use std::slice::from_ref;

use super::attempt::{admit, attempt};
use super::bind::Calls;
use super::feed::Feed;
use super::outcome::Reply;

/// Takes deliveries until the feed has no more. Allocates nothing for a message.
pub(super) async fn run(mut calls: Box<dyn Calls + '_>, feed: &mut dyn Feed) {
    let mut reply = Reply::new();
    while let Some(delivery) = poll_fn(|cx| feed.poll_next(cx)).await {
        match admit(&mut *calls, feed, &delivery).await {
            Ok(key) => {
                attempt(&mut *calls, feed, from_ref(&delivery), &mut reply).await;
                feed.done(delivery, key, reply.take());
            }
            Err(ended) => feed.done(delivery, None, ended),
        }
    }
}
