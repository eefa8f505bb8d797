//! The suite against the Redis broker: each case on keys of its own, on the wall clock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abe_events::BoxError;
use abe_events::broker::redis::__redis as client;
use abe_events::broker::redis::RedisBroker;
use abe_events::broker::{Answer, Broker};
use abe_events::conformance::{Backend, Report};

use crate::redis_server::Server;
use crate::{run_all, say};

/// Opens brokers on keys of a private server, which goes with them when the tests end.
struct Redis(&'static Server);

impl Redis {
    async fn broker(&self, storage: &str) -> Result<Arc<dyn Broker>, BoxError> {
        // A loaded machine may be slow to answer.
        let broker = RedisBroker::builder(&self.0.url_of(storage))?.timeout(Duration::from_secs(20)).open().await?;
        Ok(Arc::new(broker))
    }

    /// The server as an operator sees it.
    async fn operator(&self) -> Result<client::aio::MultiplexedConnection, BoxError> {
        Ok(client::Client::open(self.0.address())?.get_multiplexed_async_connection().await?)
    }
}

impl Backend for Redis {
    fn name(&self) -> &str {
        "redis, keys for each case"
    }

    fn open<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        Answer::later(self.broker(storage))
    }

    fn remove<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<(), BoxError>> {
        Answer::later(async move {
            let mut operator = self.operator().await?;
            let keys: Vec<Vec<u8>> = client::cmd("KEYS").arg(format!("{{{storage}}}:*")).query_async(&mut operator).await?;
            for some in keys.chunks(1_000) {
                client::cmd("DEL").arg(some).query_async::<()>(&mut operator).await?;
            }
            Ok(())
        })
    }

    fn open_without_dead_letters<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Option<Arc<dyn Broker>>, BoxError>> {
        Answer::later(async move {
            let broker = self.broker(storage).await?;
            let mut operator = self.operator().await?;
            client::cmd("SET").arg(format!("{{{storage}}}:dead")).arg("no stream").query_async::<()>(&mut operator).await?;
            Ok(Some(broker))
        })
    }
}

/// What the suite found, once for all tests that look at it; `None` where no server is installed.
pub(crate) fn report() -> Option<&'static Report> {
    static REPORT: OnceLock<Option<Report>> = OnceLock::new();
    REPORT.get_or_init(|| Some(run_all(Redis(Server::shared()?)))).as_ref()
}

/// Prints the table, and fails by what it says.
#[test]
fn table() {
    let Some(report) = report() else { return };
    say(report);
    report.assert();
}
