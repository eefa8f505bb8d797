//! The suite against the PostgreSQL broker: each case in a database of its own, on the wall clock.

use std::sync::Arc;
use std::time::Duration;

use abe_events::broker::Broker;
use abe_events::broker::postgres::PostgresBroker;

use crate::bench::{Boxed, Check, Clock, Harness, Size};
use crate::server::Server;
use crate::table::run_all;

/// Opens brokers on databases of a private server.
struct Postgres {
    title: &'static str,
    server: &'static Server,
    parameters: &'static str,
}

impl Postgres {
    async fn broker(&self) -> Check<(Arc<dyn Broker>, String)> {
        let server = self.server;
        let url = tokio::task::spawn_blocking(|| server.database("conformance")).await?;
        let broker = PostgresBroker::builder(&format!("{url}?connections=6{}", self.parameters))?.open().await?;
        Ok((Arc::new(broker), url))
    }
}

impl Harness for Postgres {
    fn title(&self) -> &'static str {
        self.title
    }

    fn open(&self) -> Boxed<'_, Check<Arc<dyn Broker>>> {
        Box::pin(async { Ok(self.broker().await?.0) })
    }

    fn clock(&self) -> Clock {
        Clock::Real
    }

    fn tolerance(&self) -> Duration {
        // How late a loaded machine may be; nothing waits for it.
        Duration::from_secs(10)
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn usual_lease(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    fn repeats(&self) -> bool {
        false
    }

    fn open_without_dead_letters(&self) -> Boxed<'_, Check<Option<Arc<dyn Broker>>>> {
        Box::pin(async {
            let (broker, url) = self.broker().await?;
            let server = self.server;
            let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no more''; END'; \
                          CREATE TRIGGER refuse BEFORE INSERT ON abe_events.dead_letter FOR EACH ROW EXECUTE FUNCTION refuse()";
            tokio::task::spawn_blocking(move || server.sql(&url, refuse)).await?;
            Ok(Some(broker))
        })
    }
}

fn hold(title: &'static str, parameters: &'static str) {
    let Some(server) = Server::shared() else { return };
    let (table, failed) = run_all(&(Arc::new(Postgres { title, server, parameters }) as Arc<dyn Harness>), Size::from_env());
    crate::memory::say(&table);
    assert_eq!(failed, 0, "{table}");
}

/// Prints the table, and fails by what it says.
#[test]
fn table() {
    hold("postgres, a database for each case", "");
}

/// The same as behind a pooler that hands each transaction to any session: nothing is prepared, and nobody listens.
#[test]
fn table_as_behind_a_pooler() {
    hold("postgres, as behind a pooler, acks relaxed", "&pooler=transaction&acks=relaxed");
}
