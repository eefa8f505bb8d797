//! Publishing: room first, then the message; what finds no room waits, fails or is shed, as each subscription says.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Messages, Origin, Outgoing, PublishFailure, Published};
use super::backlog::{Chunk, Entry as Stored};
use super::budget::Load;
use super::cycles::Cycles;
use super::door::{Ask, Door};
use super::queue::Queue;
use super::routes::Routes;
use super::waiting::Waiting;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::policy::WhenFull;

/// What still has to get into one queue.
#[derive(Debug)]
pub(super) struct Transfer {
    queue: Arc<Queue>,
    messages: Arc<Vec<Message>>,
    next: usize,
    /// Which message of the publish its first one is.
    offset: usize,
}

/// What came of the first, synchronous part of a publish.
#[derive(Debug, Default)]
pub(super) struct Begun {
    pub(super) published: Published,
    pub(super) waiting: Vec<Transfer>,
}

/// Stores what finds room at once. What has to wait is in [`Begun::waiting`].
pub(super) fn begin(routes: &Routes, outgoing: Outgoing) -> Result<Begun, PublishFailure> {
    match outgoing.messages {
        Messages::One(message) => {
            let topic = message.topic().clone();
            routes.with(&topic, |queues| begin_one(queues, message, outgoing.delay))
        }
        Messages::Many(messages) => begin_many(routes, messages, outgoing.delay),
    }
}

fn begin_one(queues: &[Arc<Queue>], message: Message, delay: Duration) -> Result<Begun, PublishFailure> {
    let load = Load::one(message.weight());
    let failing = || queues.iter().filter(|queue| queue.when_full() == WhenFull::Fail);
    for (count, queue) in failing().enumerate() {
        if !door(queue, delay).try_enter(load) {
            failing().take(count).for_each(|reserved| give(reserved, delay, load));
            return Err(full(queue));
        }
    }
    let mut begun = Begun::default();
    let Some((last, others)) = queues.split_last() else { return Ok(begun) };
    let mut waiting: Option<Arc<Vec<Message>>> = None;
    let mut wait = |queue: &Arc<Queue>, message: &Message| {
        let messages = waiting.get_or_insert_with(|| Arc::new(vec![message.clone()])).clone();
        Transfer { queue: queue.clone(), messages, next: 0, offset: 0 }
    };
    for queue in others {
        match enter(queue, delay, load) {
            Some(true) => store(queue, delay, message.clone(), &mut begun.published),
            Some(false) => queue.count_shed(1),
            None => begun.waiting.push(wait(queue, &message)),
        }
    }
    match enter(last, delay, load) {
        Some(true) => store(last, delay, message, &mut begun.published),
        Some(false) => last.count_shed(1),
        None => begun.waiting.push(wait(last, &message)),
    }
    Ok(begun)
}

/// Whether a message has room now (`true`), is shed (`false`), or has to wait. Where a publish fails rather, it was taken before.
fn enter(queue: &Queue, delay: Duration, load: Load) -> Option<bool> {
    match queue.when_full() {
        WhenFull::Fail => Some(true),
        WhenFull::Shed => Some(door(queue, delay).try_enter(load)),
        WhenFull::Wait => door(queue, delay).try_enter(load).then_some(true),
    }
}

fn store(queue: &Queue, delay: Duration, message: Message, published: &mut Published) {
    if delay.is_zero() {
        queue.push(Stored::One(message));
    } else {
        queue.push_delayed(message, delay);
    }
    published.deliveries += 1;
}

fn begin_many(routes: &Routes, messages: Vec<Message>, delay: Duration) -> Result<Begun, PublishFailure> {
    let runs = split_by_topic(messages);
    let mut reserved: Vec<(Arc<Queue>, Load)> = Vec::new();
    for (_, run) in &runs {
        let Some(first) = run.first() else { continue };
        for queue in routes.of(first.topic()).iter().filter(|queue| queue.when_full() == WhenFull::Fail) {
            let load = load_of(run);
            if !door(queue, delay).try_enter(load) {
                reserved.iter().for_each(|(queue, load)| give(queue, delay, *load));
                return Err(full(queue));
            }
            reserved.push((queue.clone(), load));
        }
    }
    let mut begun = Begun::default();
    for (offset, run) in runs {
        let Some(route) = run.first().map(|first| routes.of(first.topic())) else { continue };
        match &*route {
            [queue] if delay.is_zero() && takes_all(queue, &run, &reserved) => {
                begun.published.deliveries += run.len() as u64;
                queue.push(Stored::Batch(run.into_iter()));
            }
            queues => {
                let all = load_of(&run);
                let messages = Arc::new(run);
                for queue in queues {
                    let mut transfer = Transfer { queue: queue.clone(), messages: messages.clone(), next: 0, offset };
                    let taken = reserved.iter().any(|(reserved, _)| Arc::ptr_eq(reserved, queue));
                    if taken || (delay.is_zero() && queue.buffer.try_enter(all)) {
                        transfer.store(messages.len(), delay, &mut begun.published);
                    }
                    if !transfer.advance(delay, &mut begun.published) {
                        begun.waiting.push(transfer);
                    }
                }
            }
        }
    }
    Ok(begun)
}

/// Whether a whole run has room in a queue.
fn takes_all(queue: &Arc<Queue>, run: &[Message], reserved: &[(Arc<Queue>, Load)]) -> bool {
    reserved.iter().any(|(reserved, _)| Arc::ptr_eq(reserved, queue)) || queue.buffer.try_enter(load_of(run))
}

/// Runs of messages of one topic, with the number of the first.
fn split_by_topic(mut messages: Vec<Message>) -> Vec<(usize, Vec<Message>)> {
    let mut runs = Vec::new();
    while let Some(last) = messages.last() {
        let start = messages.iter().rposition(|message| message.topic() != last.topic()).map_or(0, |before| before + 1);
        if start == 0 {
            runs.push((0, std::mem::take(&mut messages)));
        } else {
            runs.push((start, messages.split_off(start)));
        }
    }
    runs.reverse();
    runs
}

impl Transfer {
    /// Stores as much as there is room for, and says whether that was all.
    fn advance(&mut self, delay: Duration, published: &mut Published) -> bool {
        while self.next < self.messages.len() {
            let (count, load) = self.fitting(delay);
            if count == 0 || !door(&self.queue, delay).try_enter(load) {
                if self.queue.when_full() != WhenFull::Shed {
                    return false;
                }
                if count == 0 {
                    self.queue.count_shed((self.messages.len() - self.next) as u64);
                    return true;
                }
                continue;
            }
            self.store(count, delay, published);
        }
        true
    }

    /// How many of the next messages there is room for, and what they weigh together.
    fn fitting(&self, delay: Duration) -> (usize, Load) {
        let budget = &door(&self.queue, delay).budget;
        let (used, limit) = (budget.used(), budget.limit());
        let mut load = Load::default();
        let mut count = 0;
        for message in self.messages.iter().skip(self.next) {
            let mut next = load;
            next.add(Load::one(message.weight()));
            let alone = used.messages == 0 && next.messages == 1;
            if used.messages + next.messages > limit.messages || (used.bytes + next.bytes > limit.bytes && !alone) {
                break;
            }
            load = next;
            count += 1;
        }
        (count, load)
    }

    /// Stores the next messages, for which there is room.
    fn store(&mut self, count: usize, delay: Duration, published: &mut Published) {
        let range = self.next..self.messages.len().min(self.next + count);
        self.next = range.end;
        published.deliveries += range.len() as u64;
        if !delay.is_zero() {
            for message in self.messages.iter().take(range.end).skip(range.start) {
                self.queue.push_delayed(message.clone(), delay);
            }
        } else if range.len() == 1
            && let Some(message) = self.messages.get(range.start)
        {
            self.queue.push(Stored::One(message.clone()));
        } else if !range.is_empty() {
            self.queue.push(Stored::Chunk(Chunk { messages: self.messages.clone(), next: range.start, end: range.end }));
        }
    }

    /// What it asks for when it has to wait.
    fn ask(&self) -> Ask {
        let first = self.messages.get(self.next).map(|message| Load::one(message.weight())).unwrap_or_default();
        Ask { all: load_of(self.messages.get(self.next..).unwrap_or_default()), first }
    }
}

/// Waits for room and stores the rest.
pub(super) async fn finish(
    cycles: Arc<Cycles>,
    mut begun: Begun,
    delay: Duration,
    origin: Option<Origin>,
) -> Result<Published, PublishFailure> {
    while let Some(mut transfer) = begun.waiting.pop() {
        while !transfer.advance(delay, &mut begun.published) {
            match Waiting::new(transfer.queue.clone(), !delay.is_zero(), transfer.ask(), origin).room(&cycles).await {
                Ok(granted) => transfer.store(usize::try_from(granted.messages).unwrap_or(0), delay, &mut begun.published),
                Err(error) => {
                    begun.waiting.push(transfer);
                    let stored = begun.waiting.iter().map(|transfer| transfer.offset + transfer.next).min().unwrap_or(0);
                    // Other subscriptions may hold what this one could not take: then nobody can say that it is not stored.
                    let partly = begun.published.deliveries > stored as u64;
                    let error =
                        if partly { Error::new(ErrorKind::Unknown, format!("stored for some subscriptions: {error}")) } else { error };
                    return Err(PublishFailure { stored, error });
                }
            }
        }
    }
    Ok(begun.published)
}

/// The door that bounds what is published with a delay, or without.
fn door(queue: &Queue, delay: Duration) -> &Door {
    if delay.is_zero() { &queue.buffer } else { &queue.delayed }
}

fn give(queue: &Queue, delay: Duration, load: Load) {
    if delay.is_zero() {
        queue.give_back(load);
    } else {
        queue.delayed.give(load);
    }
}

fn load_of(messages: &[Message]) -> Load {
    let mut load = Load::default();
    messages.iter().for_each(|message| load.add(Load::one(message.weight())));
    load
}

fn full(queue: &Queue) -> PublishFailure {
    let limit = queue.buffer.budget.limit();
    let text = format!("the queue of {} is full ({} messages, {} bytes), and it is set to fail", queue.name, limit.messages, limit.bytes);
    PublishFailure { stored: 0, error: Error::new(ErrorKind::Full, text) }
}

/// Takes room for one message in one queue, waiting for it.
pub(super) async fn into_one(cycles: &Cycles, queue: &Arc<Queue>, message: &Message) -> Result<Load> {
    let load = Load::one(message.weight());
    if queue.buffer.try_enter(load) {
        return Ok(load);
    }
    let ask = Ask { all: load, first: load };
    Waiting::new(queue.clone(), false, ask, None).room(cycles).await
}
