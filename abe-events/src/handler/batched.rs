//! The loop of a handler that takes a batch per call.

use std::future::poll_fn;

use super::attempt::{admit, attempt, call};
use super::bind::Calls;
use super::feed::{Ended, Feed, InboxKey};
use super::outcome::Reply;
use super::transact;
use crate::broker::{Delivery, FailureKind};
use crate::mutant;

/// A delivery that failed so often within a batch runs alone from then on, so that a poisoned one costs itself alone.
const ATTEMPTS_TOGETHER_MAX: u32 = 2;

/// Takes deliveries until the feed has no more.
pub(super) async fn run(mut calls: Box<dyn Calls + '_>, feed: &mut dyn Feed) {
    let mut reply = Reply::new();
    let mut batch = Vec::new();
    let mut keys = Vec::new();
    while fill(&mut *calls, feed, false, &mut batch, &mut keys).await {
        if !batch.is_empty() {
            attempt(&mut *calls, feed, &batch, &mut reply).await;
            settle(feed, &mut batch, &mut keys, &mut reply);
        }
    }
}

/// The same, each batch in a transaction of its own.
pub(super) async fn run_in_transactions(mut calls: Box<dyn Calls + '_>, feed: &mut dyn Feed) {
    let mut reply = Reply::new();
    let mut batch = Vec::new();
    let mut keys = Vec::new();
    while fill(&mut *calls, feed, true, &mut batch, &mut keys).await {
        if transact::begin_batch(&mut *calls, feed, &mut batch, &mut keys.drain(..).flatten().collect()).await {
            call(&mut *calls, feed, &batch, &mut reply).await;
            transact::end(feed, &batch, &mut reply).await;
            keys.resize(batch.len(), None);
            settle(feed, &mut batch, &mut keys, &mut reply);
        }
    }
}

/// Collects a batch, which may stay empty; `false` when the feed has no more and nothing was collected.
async fn fill(
    calls: &mut dyn Calls,
    feed: &mut dyn Feed,
    transacted: bool,
    batch: &mut Vec<Delivery>,
    keys: &mut Vec<Option<InboxKey>>,
) -> bool {
    let Some(first) = poll_fn(|cx| feed.poll_next(cx)).await else { return false };
    let alone = first.attempt > ATTEMPTS_TOGETHER_MAX && !mutant::is("poison-stays-in-batch");
    let mut bytes = first.message.weight();
    match admitted(calls, feed, transacted, &first).await {
        Ok(key) => {
            batch.push(first);
            keys.push(key);
        }
        Err(ended) => {
            feed.done(first, None, ended);
            return true;
        }
    }
    if alone {
        return true;
    }
    feed.batch_begins();
    let (count_max, bytes_max) = (feed.batch_max(), feed.batch_bytes_max());
    while batch.len() < count_max && bytes < bytes_max {
        let Some(delivery) = poll_fn(|cx| feed.poll_more(cx)).await else { break };
        let weight = delivery.message.weight();
        if (delivery.attempt > ATTEMPTS_TOGETHER_MAX && !mutant::is("poison-stays-in-batch")) || bytes.saturating_add(weight) > bytes_max {
            feed.put_back(delivery);
            break;
        }
        match admitted(calls, feed, transacted, &delivery).await {
            Ok(key) => {
                bytes = bytes.saturating_add(weight);
                batch.push(delivery);
                keys.push(key);
            }
            Err(ended) => feed.done(delivery, None, ended),
        }
    }
    true
}

/// Opens a delivery, with its key: reserved at once, or recorded when the batch's transaction begins.
async fn admitted(calls: &mut dyn Calls, feed: &mut dyn Feed, transacted: bool, delivery: &Delivery) -> Result<Option<InboxKey>, Ended> {
    if transacted { transact::open(calls, feed, delivery).map(Some) } else { admit(calls, feed, delivery).await }
}

/// Says of each delivery how it ended.
fn settle(feed: &mut dyn Feed, batch: &mut Vec<Delivery>, keys: &mut Vec<Option<InboxKey>>, reply: &mut Reply) {
    let count = batch.len();
    if let Some((&beyond, _)) = reply.each.last_key_value()
        && beyond >= count
    {
        let text = format!("the handler gave an outcome for index {beyond} of a batch of {count}");
        reply.fail(Ended::failed(FailureKind::Error, text));
    }
    for (index, (delivery, key)) in batch.drain(..).zip(keys.drain(..)).enumerate() {
        feed.done(delivery, key, reply.of_item(index));
    }
    *reply = Reply::new();
}
