//! The suite against the NATS broker: each case on streams of its own, on the wall clock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abe_events::BoxError;
use abe_events::broker::nats::__async_nats as client;
use abe_events::broker::nats::NatsBroker;
use abe_events::broker::{Answer, Broker};
use abe_events::conformance::{Backend, Report};

use crate::nats_server::Server;
use crate::{run_all, say};

/// Opens brokers on streams of a private server, which goes with them when the tests end.
struct Nats(&'static Server);

impl Nats {
    async fn broker(&self, storage: &str) -> Result<Arc<dyn Broker>, BoxError> {
        // A loaded machine may be slow to answer.
        let broker = NatsBroker::builder(&self.0.url_of(storage))?.timeout(Duration::from_secs(20)).open().await?;
        Ok(Arc::new(broker))
    }

    /// The server as an operator sees it.
    async fn operator(&self) -> Result<client::jetstream::Context, BoxError> {
        let options = client::ConnectOptions::with_user_and_password("shop".into(), "hunter2".into());
        Ok(client::jetstream::new(options.connect(self.0.address()).await?))
    }
}

impl Backend for Nats {
    fn name(&self) -> &str {
        "nats, streams for each case"
    }

    fn open<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        Answer::later(self.broker(storage))
    }

    fn remove<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<(), BoxError>> {
        Answer::later(async move {
            let operator = self.operator().await?;
            for stream in ["", "_dead", "_state"] {
                // One that a case has removed itself is gone.
                let _ = operator.delete_stream(format!("{storage}{stream}")).await;
            }
            Ok(())
        })
    }

    fn open_without_dead_letters<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Option<Arc<dyn Broker>>, BoxError>> {
        Answer::later(async move {
            let broker = self.broker(storage).await?;
            self.operator().await?.delete_stream(format!("{storage}_dead")).await?;
            Ok(Some(broker))
        })
    }
}

/// What the suite found, once for all tests that look at it; `None` where no server is installed.
pub(crate) fn report() -> Option<&'static Report> {
    static REPORT: OnceLock<Option<Report>> = OnceLock::new();
    REPORT.get_or_init(|| Some(run_all(Nats(Server::shared()?)))).as_ref()
}

/// Prints the table, and fails by what it says.
#[test]
fn table() {
    let Some(report) = report() else { return };
    say(report);
    report.assert();
}
