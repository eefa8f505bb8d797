//! The event log, and publishing into the store first: what is written down, when, and what a fault leaves.
#![expect(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

#[cfg(feature = "postgres")]
#[path = "support/postgres.rs"]
mod postgres_server;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use abe_events::broker::memory::MemoryBroker;
use abe_events::broker::sqlite::__rusqlite as rusqlite;
use abe_events::broker::{
    Answer, Broker, Capabilities, Consumer, DeadLetterFilter, DeadLetters, Outgoing, PublishFailure, Published, SubscriptionSpec,
};
use abe_events::config::Config;
use abe_events::runtime::{LogFilter, LogStatus, LoggedEvent};
use abe_events::{Context, Error, ErrorKind, Result, Runtime, RuntimeBuilder, event, handlers, subscribe};

#[cfg(feature = "postgres")]
use self::postgres_server::Server;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

#[event(topic = "logged.ordered", key = number)]
struct Ordered {
    number: u32,
}

#[event(topic = "logged.billed")]
struct Billed {
    number: u32,
}

/// How the bank does, and what was handled.
#[derive(Default)]
struct Bank {
    open: AtomicBool,
    tries: AtomicU32,
    handled: AtomicU32,
}

#[subscribe(name = "note")]
async fn note(_order: &Ordered, bank: &Bank) {
    bank.handled.fetch_add(1, Ordering::SeqCst);
}

#[subscribe(name = "bill", retry(attempts = 2, min = "1ms", max = "2ms"))]
async fn bill(order: &Ordered, bank: &Bank, ctx: &Context) -> Result<()> {
    bank.tries.fetch_add(1, Ordering::SeqCst);
    if !bank.open.load(Ordering::SeqCst) {
        return Err(Error::msg("the bank is closed"));
    }
    ctx.publish(Billed { number: order.number }).await.map(drop)
}

/// A store for one test.
enum Place {
    /// In a folder that goes with it.
    Sqlite(PathBuf),
    /// A database of a server that all tests of this program share.
    #[cfg(feature = "postgres")]
    Postgres(&'static Server, String),
}

impl Place {
    fn sqlite(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("abe-events-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self::Sqlite(folder)
    }

    #[cfg(feature = "postgres")]
    fn postgres(name: &str) -> Option<Self> {
        Server::shared().map(|server| Self::Postgres(server, server.database(name)))
    }

    fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.join("events.db").display()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_, url) => url.clone(),
        }
    }

    /// From now on no event can be written down, or again it can.
    fn refuse_events(&self, refuse: bool) {
        match self {
            Self::Sqlite(folder) => {
                let file = rusqlite::Connection::open(folder.join("events.db")).unwrap();
                file.busy_timeout(Duration::from_secs(10)).unwrap();
                let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON abe_event BEGIN SELECT RAISE(ABORT, 'no more'); END";
                file.execute_batch(if refuse { trigger } else { "DROP TRIGGER refuse" }).unwrap();
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(server, url) => {
                let what = if refuse { "ADD CONSTRAINT refuse CHECK (false) NOT VALID" } else { "DROP CONSTRAINT refuse" };
                server.sql(url, &format!("ALTER TABLE abe_events.abe_event {what}"));
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        #[cfg_attr(not(feature = "postgres"), expect(irrefutable_let_patterns, reason = "there is one kind"))]
        if let Self::Sqlite(folder) = self {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Every test, on every database.
macro_rules! on_each_database {
    ($($test:ident)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Place::sqlite(stringify!($test))).await;
            })+
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(place) = super::Place::postgres(stringify!($test)) {
                    super::$test(place).await;
                }
            })+
        }
    };
}

on_each_database! {
    every_event_is_there_with_what_became_of_it_in_each_subscription
    what_waits_is_pending_and_what_is_too_old_goes
    an_event_that_cannot_be_written_down_is_not_published
    an_event_of_somebody_without_a_log_is_written_down_when_it_is_handled
    a_publish_that_is_refused_is_not_in_the_log
    store_first_publishes_while_the_broker_is_away_and_what_is_left_after_the_next_start
}

/// A runtime on the memory broker, its log in a file.
fn builder(place: &Place, bank: &Arc<Bank>) -> RuntimeBuilder {
    Runtime::builder()
        .config(Config::default())
        .store(place.url())
        .event_log(WEEK)
        .shared_state(bank.clone())
        .handlers(handlers![note, bill])
}

async fn all(runtime: &Runtime) -> Vec<LoggedEvent> {
    runtime.event_log().unwrap().list(&LogFilter::default()).await.unwrap()
}

fn fate(event: &LoggedEvent, name: &str) -> (LogStatus, u32, Option<String>) {
    let fate = event.fates.iter().find(|fate| fate.subscription.as_str() == name).unwrap();
    (fate.status, fate.retries, fate.error.clone())
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "{what}");
}

async fn every_event_is_there_with_what_became_of_it_in_each_subscription(place: Place) {
    let bank = Arc::new(Bank::default());
    let runtime = builder(&place, &bank).start().await.unwrap();
    let began = SystemTime::now() - Duration::from_secs(5);
    for number in 0..5 {
        runtime.publish(Ordered { number }).await.unwrap();
    }
    runtime.settled().await;

    let events = all(&runtime).await;
    assert_eq!(events.len(), 5);
    for event in &events {
        assert_eq!((event.status, event.deliveries), (LogStatus::Failed, Some(2)));
        assert_eq!(fate(event, "note"), (LogStatus::Processed, 0, None));
        assert_eq!(fate(event, "bill"), (LogStatus::Failed, 2, Some("the bank is closed".into())));
        assert!(event.stored >= began && event.stored <= SystemTime::now() + Duration::from_secs(5));
    }
    assert!(events.is_sorted_by_key(|event| event.number));

    // What is replayed and goes well is failed no longer; its last error is kept.
    bank.open.store(true, Ordering::SeqCst);
    runtime.dead_letters().replay(&DeadLetterFilter::of(events[0].message.id().clone())).await.unwrap();
    runtime.settled().await;
    let log = runtime.event_log().unwrap();
    let first = log.get(events[0].message.id()).await.unwrap().unwrap();
    assert_eq!((first.status, fate(&first, "bill")), (LogStatus::Processed, (LogStatus::Processed, 0, Some("the bank is closed".into()))));
    assert_eq!(first.message.payload().to_bytes().unwrap(), r#"{"number":0}"#);

    let count = async |filter: LogFilter| log.list(&filter).await.unwrap().len();
    let usual = LogFilter::default;
    assert_eq!(count(LogFilter { status: Some(LogStatus::Failed), ..usual() }).await, 4);
    assert_eq!(count(LogFilter { status: Some(LogStatus::Pending), ..usual() }).await, 0);
    assert_eq!(count(LogFilter { topic: Some("logged.billed".into()), ..usual() }).await, 1);
    assert_eq!(count(LogFilter { correlation: Some(first.message.id().clone()), ..usual() }).await, 2, "the order and its bill");
    assert_eq!(count(LogFilter { since: Some(SystemTime::now() + Duration::from_secs(60)), ..usual() }).await, 0);
    assert_eq!(count(LogFilter { until: Some(began), ..usual() }).await, 0);
    let page = log.list(&LogFilter { limit: 2, ..usual() }).await.unwrap();
    let next = log.list(&LogFilter { after: page[1].number, limit: 2, ..usual() }).await.unwrap();
    assert_eq!((page[0].number, next[0].message.id()), (events[0].number, events[2].message.id()));
    // Nobody subscribes to it, so that nothing is left to be done.
    let billed = log.list(&LogFilter { topic: Some("logged.billed".into()), ..usual() }).await.unwrap();
    assert_eq!((billed[0].status, billed[0].deliveries), (LogStatus::Processed, Some(0)));
    runtime.stop().await;
}

async fn what_waits_is_pending_and_what_is_too_old_goes(place: Place) {
    let bank = Arc::new(Bank::default());
    let runtime = builder(&place, &bank).start().await.unwrap();
    let id = runtime.publishing(Ordered { number: 1 }).delay(Duration::from_secs(3600)).send().await.unwrap();
    let log = runtime.event_log().unwrap();
    assert_eq!(log.get(&id).await.unwrap().unwrap().status, LogStatus::Pending);
    assert_eq!(log.remove_older(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(log.remove_older(Duration::ZERO).await.unwrap(), 1);
    assert!(log.get(&id).await.unwrap().is_none());
    runtime.stop().await;
}

async fn an_event_that_cannot_be_written_down_is_not_published(place: Place) {
    let bank = Arc::new(Bank::default());
    let runtime = builder(&place, &bank).start().await.unwrap();
    place.refuse_events(true);
    let error = runtime.publish(Ordered { number: 1 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStored);
    assert!(error.to_string().contains("event log"), "{error}");
    place.refuse_events(false);
    runtime.publish(Ordered { number: 2 }).await.unwrap();
    runtime.settled().await;
    assert_eq!(bank.handled.load(Ordering::SeqCst), 1, "only the second was published");
    runtime.stop().await;
}

async fn an_event_of_somebody_without_a_log_is_written_down_when_it_is_handled(place: Place) {
    let bank = Arc::new(Bank::default());
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let runtime = builder(&place, &bank).broker(broker.clone()).start().await.unwrap();
    let other = Runtime::builder().config(Config::default()).broker(broker).handlers(handlers![idle]).start().await.unwrap();
    let id = other.publish(Ordered { number: 1 }).await.unwrap();
    runtime.settled().await;
    let event = runtime.event_log().unwrap().get(&id).await.unwrap().unwrap();
    assert_eq!((event.status, event.deliveries), (LogStatus::Failed, None));
    assert_eq!((fate(&event, "note").0, fate(&event, "bill").1), (LogStatus::Processed, 2));
    other.stop().await;
    runtime.stop().await;
}

#[event(topic = "logged.nothing")]
struct Nothing;

#[subscribe(name = "idle")]
async fn idle(_nothing: &Nothing) {}

/// A memory broker that may be away.
#[derive(Debug)]
struct Fickle {
    inner: MemoryBroker,
    away: AtomicBool,
}

impl Fickle {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: MemoryBroker::new(), away: AtomicBool::new(true) })
    }
}

impl Broker for Fickle {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn subscribe<'a>(&'a self, spec: &'a SubscriptionSpec) -> Answer<'a, Result<Arc<dyn Consumer>>> {
        self.inner.subscribe(spec)
    }

    fn publish(&self, outgoing: Outgoing) -> Answer<'_, Result<Published, PublishFailure>> {
        if self.away.load(Ordering::SeqCst) {
            return Answer::ready(Err(PublishFailure { stored: 0, error: Error::new(ErrorKind::NotStored, "the broker is away") }));
        }
        self.inner.publish(outgoing)
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }

    fn close(&self) -> Answer<'_, Result<()>> {
        self.inner.close()
    }
}

async fn a_publish_that_is_refused_is_not_in_the_log(place: Place) {
    let bank = Arc::new(Bank::default());
    let runtime = builder(&place, &bank).broker(Fickle::new()).start().await.unwrap();
    assert_eq!(runtime.publish(Ordered { number: 1 }).await.unwrap_err().kind(), ErrorKind::NotStored);
    assert!(all(&runtime).await.is_empty());
    runtime.stop().await;
}

async fn store_first_publishes_while_the_broker_is_away_and_what_is_left_after_the_next_start(place: Place) {
    let bank = Arc::new(Bank::default());
    bank.open.store(true, Ordering::SeqCst);
    let fickle = Fickle::new();
    let first = || Runtime::builder().config(Config::default()).store(place.url()).store_first().shared_state(bank.clone());
    let runtime = first().handlers(handlers![note]).broker(fickle.clone()).start().await.unwrap();
    for number in 0..20 {
        runtime.publish(Ordered { number }).await.unwrap();
    }
    assert_eq!(bank.handled.load(Ordering::SeqCst), 0);
    fickle.away.store(false, Ordering::SeqCst);
    until("the relay brings them when the broker is back", async || bank.handled.load(Ordering::SeqCst) == 20).await;
    until("each is counted once", async || runtime.monitor().published == 20).await;

    // Left behind: the broker goes away, and then the program.
    fickle.away.store(true, Ordering::SeqCst);
    for number in 20..25 {
        runtime.publish(Ordered { number }).await.unwrap();
    }
    runtime.stop().await;
    assert_eq!(bank.handled.load(Ordering::SeqCst), 20);
    let runtime = first().handlers(handlers![note]).start().await.unwrap();
    until("the next start publishes what was left", async || bank.handled.load(Ordering::SeqCst) == 25).await;
    runtime.stop().await;
}

#[tokio::test]
async fn both_want_a_store_and_say_so() {
    let plain = || Runtime::builder().config(Config::default()).handlers(handlers![idle]);
    for builder in [plain().event_log(WEEK), plain().store_first()] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Start);
        assert!(error.to_string().contains("needs a store"), "{error}");
    }
    let runtime = plain().start().await.unwrap();
    assert_eq!(runtime.event_log().unwrap_err().kind(), ErrorKind::Unsupported);
    runtime.stop().await;
}

/// The first `sql` block of the page on operations, statement by statement.
#[cfg(feature = "postgres")]
fn documented_grants() -> Vec<String> {
    let page = include_str!("../docs/guide/operations.md");
    let block = page.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    block.split(';').map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_grants_are_enough_and_so_is_less_for_who_only_publishes() {
    let Some(server) = Server::shared() else { return };
    let (url, bank) = (server.database("grants"), Arc::new(Bank::default()));
    let by = |url: &str| Runtime::builder().config(Config::default()).url(url).event_log(WEEK).shared_state(bank.clone());
    by(&url).handlers(handlers![note]).start().await.unwrap().stop().await;
    for statement in documented_grants() {
        server.sql(&url, &statement);
    }
    for statement in [
        "CREATE ROLE shop_teller LOGIN",
        "GRANT USAGE ON SCHEMA abe_events TO shop_teller",
        "GRANT INSERT ON abe_events.abe_outbox TO shop_teller",
    ] {
        server.sql(&url, statement);
    }
    let run = format!("{}?migrate=off", url.replace("postgres@", "shop_run@"));
    let runtime = by(&run).handlers(handlers![note]).start().await.unwrap();
    runtime.publish(Ordered { number: 1 }).await.unwrap();
    let publish = r#"SELECT abe_events.publish('logged.ordered', '{"number":2}'::text, key => '2')"#;
    let id = server.sql(&url.replace("postgres@", "shop_teller@"), publish);
    until("both are handled", async || bank.handled.load(Ordering::SeqCst) == 2).await;
    let log = runtime.event_log().unwrap();
    until("the second is in the log", async || {
        log.get(&id.parse().unwrap()).await.unwrap().is_some_and(|event| event.status == LogStatus::Processed)
    })
    .await;
    runtime.stop().await;
}
