//! A whole program, chosen by its URL.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abe_events::broker::DeadLetterFilter;
use abe_events::config::Config;
use abe_events::{Result, Runtime, event, handlers, subscribe};
use tokio::time::{sleep, timeout};

use crate::PATIENCE;
use crate::server::Server;

#[event(topic = "program.counted", key = number)]
pub(crate) struct Counted {
    pub(crate) number: u32,
}

#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<u32>>>);

impl Notes {
    fn all(&self) -> Vec<u32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_unstable();
        all
    }
}

#[subscribe(ordered, concurrency = 4, retry(attempts = 3, min = "5ms", max = "20ms"))]
pub(crate) async fn count(counted: &Counted, notes: &Notes) -> Result<()> {
    if counted.number == 13 {
        return Err(abe_events::Error::msg("told to fail"));
    }
    notes.0.lock().unwrap_or_else(PoisonError::into_inner).push(counted.number);
    Ok(())
}

async fn start(url: &str, notes: &Notes) -> Result<Runtime> {
    Runtime::builder().config(Config::default()).url(url).handlers(handlers![count]).state(notes.clone()).start().await
}

/// A program is stopped and started again: everything is handled once, and the numbers add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_goes_on_where_it_stopped() -> Result<()> {
    let Some(server) = Server::shared() else { return Ok(()) };
    let (url, notes) = (server.prefix("program"), Notes::default());
    let runtime = start(&url, &notes).await?;
    runtime.publish_all((0..200).map(|number| Counted { number })).await?;
    runtime.stop().await;
    let runtime = start(&url, &notes).await?;
    runtime.publish_all((200..300).map(|number| Counted { number })).await?;
    let all = async {
        while notes.all().len() < 299 || runtime.monitor().total().pending > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = timeout(PATIENCE, all).await;
    assert!(ended.is_ok(), "{} of 299 were handled, {:?}", notes.all().len(), runtime.monitor().total());
    assert!(runtime.monitor().balances(), "{:?}", runtime.monitor().total());
    assert_eq!(notes.all(), (0..300).filter(|number| *number != 13).collect::<Vec<_>>());
    let letters = runtime.dead_letters().list(&DeadLetterFilter::default()).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].attempts, letters[0].failures.len()), (3, 3));
    runtime.stop().await;
    Ok(())
}
