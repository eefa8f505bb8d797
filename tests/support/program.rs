//! A program on a durable broker, chosen by its URL. Included by `#[path]`.

#![allow(unreachable_pub, dead_code, reason = "included from wherever it is needed, and each uses a part of it")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abe_events::broker::DeadLetterFilter;
use abe_events::config::Config;
use abe_events::{Result, Runtime, event, handlers, subscribe};

#[event(topic = "program.ordered", key = user)]
pub struct Ordered {
    pub number: u32,
    pub user: u32,
}

/// What was handled.
#[derive(Clone, Default)]
pub struct Notes(pub Arc<Mutex<Vec<(u32, u32)>>>);

impl Notes {
    pub fn all(&self) -> Vec<(u32, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[subscribe(ordered, concurrency = 4, retry(attempts = 3, min = "5ms", max = "20ms"))]
pub async fn bill(order: &Ordered, notes: &Notes) -> Result<()> {
    if order.number == 13 {
        return Err(abe_events::Error::msg("told to fail"));
    }
    notes.0.lock().unwrap_or_else(PoisonError::into_inner).push((order.user, order.number));
    Ok(())
}

async fn start(url: &str, notes: &Notes) -> Result<Runtime> {
    Runtime::builder().config(Config::default()).url(url).handlers(handlers![bill]).state(notes.clone()).start().await
}

/// A program is stopped and started again: everything is handled once, in order, and the numbers add up.
pub async fn goes_on_where_it_stopped(url: &str) -> Result<()> {
    let notes = Notes::default();
    let runtime = start(url, &notes).await?;
    runtime.publish_all((0..200).map(|number| Ordered { number, user: number % 8 })).await?;
    runtime.stop().await;

    let runtime = start(url, &notes).await?;
    runtime.publish_all((200..300).map(|number| Ordered { number, user: number % 8 })).await?;
    let all = async {
        while notes.all().len() < 299 || runtime.monitor().total().pending > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(ended.is_ok(), "{} of 299 were handled, {:?}", notes.all().len(), runtime.monitor().total());
    assert!(runtime.monitor().balances(), "{:?}", runtime.monitor().total());
    for user in 0..8 {
        let of_user: Vec<u32> = notes.all().into_iter().filter(|(of, _)| *of == user).map(|(_, number)| number).collect();
        assert!(of_user.is_sorted(), "user {user}: {of_user:?}");
    }
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].attempts, letters[0].failures.len()), (3, 3));
    runtime.stop().await;
    Ok(())
}
