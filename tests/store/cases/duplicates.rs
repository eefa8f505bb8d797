//! Duplicates at the same moment: the record is the first statement of a transaction, so that the second one waits for the
//! first before its handler is called, and not when it has done its work.

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::memory::MemoryBroker;
use abe_events::{Id, Result, Tx, handlers, subscribe};

use super::common::{effects, rows, write};
use super::place::{Db, Place};
use crate::support::{Count, Paid, builder};

const EVENTS: i64 = 6;

#[subscribe(name = "called_once", concurrency = 4)]
async fn called_once(paid: &Paid, mut tx: Tx<Db>, count: &Count) -> Result<()> {
    count.next();
    write(&mut tx, paid.number, "called").await?;
    // Long enough for its duplicates to come.
    tokio::time::sleep(Duration::from_millis(40)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_duplicates_one_calls_the_handler_and_the_others_wait() {
    let Some(place) = Place::new().await else { return };
    let (broker, count) = (Arc::new(MemoryBroker::new()), Arc::new(Count::default()));
    let start = || builder().broker(broker.clone()).store(&place.url).handlers(handlers![called_once]).shared_state(count.clone()).start();
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    for number in 0..EVENTS {
        let id: Id = format!("event-{number}").parse().unwrap();
        for _ in 0..4 {
            first.publishing(Paid::new(number)).id(id.clone()).send().await.unwrap();
        }
    }
    first.settled().await;
    second.settled().await;
    let (one, other) = (first.monitor().total(), second.monitor().total());
    first.stop().await;
    second.stop().await;
    assert_eq!(i64::from(count.get()), EVENTS, "calls of the handler");
    assert_eq!((one.failed + other.failed, one.duplicates + other.duplicates), (0, 3 * EVENTS.cast_unsigned()));
    assert_eq!((effects(&place).await, rows(&place, "inbox").await), ((0..EVENTS).collect::<Vec<_>>(), EVENTS));
}
