//! The runtime on one SQLite file: chosen by a URL, and everything still there after a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abe_events::broker::DeadLetterFilter;
use abe_events::config::Config;
use abe_events::{ErrorKind, Result, Runtime, event, handlers, subscribe};

#[event(topic = "sqlite.ordered", key = user)]
struct Ordered {
    number: u32,
    user: u32,
}

/// What was handled.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(u32, u32)>>>);

impl Notes {
    fn all(&self) -> Vec<(u32, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[subscribe(ordered, concurrency = 4, retry(attempts = 3, min = "5ms", max = "20ms"))]
async fn bill(order: &Ordered, notes: &Notes) -> Result<()> {
    if order.number == 13 {
        return Err(abe_events::Error::msg("told to fail"));
    }
    notes.0.lock().unwrap_or_else(PoisonError::into_inner).push((order.user, order.number));
    Ok(())
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(folder: &Folder, notes: &Notes) -> Result<Runtime> {
    let url = format!("sqlite://{}", folder.0.join("events.db").display());
    Runtime::builder().config(Config::default()).url(&url).handlers(handlers![bill]).state(notes.clone()).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_goes_on_where_it_stopped() -> Result<()> {
    let folder = Folder(std::env::temp_dir().join(format!("abe-events-runtime-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    let notes = Notes::default();
    let runtime = start(&folder, &notes).await?;
    runtime.publish_all((0..200).map(|number| Ordered { number, user: number % 8 })).await?;
    runtime.stop().await;

    let runtime = start(&folder, &notes).await?;
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

#[tokio::test]
async fn a_url_that_is_mistyped_is_told_at_start() {
    let wrong = Runtime::builder().config(Config::default()).url("sqlite://events.db?synchronus=full").handlers(handlers![bill]);
    let Err(error) = wrong.state(Notes::default()).start().await else { panic!("it started") };
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("did you mean `synchronous`?"), "{error}");
}
