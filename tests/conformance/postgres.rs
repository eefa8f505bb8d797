//! The suite against the PostgreSQL broker: each case in a database of its own, on the wall clock.

use std::sync::{Arc, OnceLock};

use abe_events::BoxError;
use abe_events::broker::postgres::PostgresBroker;
use abe_events::broker::{Answer, Broker};
use abe_events::conformance::{Backend, Report};

use crate::pooler::Pooler;
use crate::server::Server;
use crate::{run_all, say};

/// Opens brokers on databases of a private server, which goes with them when the tests end.
struct Postgres {
    name: &'static str,
    server: &'static Server,
    parameters: &'static str,
    pooler: Option<&'static Pooler>,
}

impl Postgres {
    /// The database of this name, made if it is not there.
    async fn database(&self, storage: &str) -> Result<String, BoxError> {
        let (server, name) = (self.server, storage.to_owned());
        let made = tokio::task::spawn_blocking(move || {
            let known = server.sql(&server.url(), &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"));
            if known == "0" { server.try_sql(&server.url(), &format!("CREATE DATABASE {name}")).map(drop) } else { Ok(()) }
        });
        made.await??;
        Ok(self.server.url_of(storage))
    }

    async fn broker(&self, url: &str) -> Result<Arc<dyn Broker>, BoxError> {
        let url = self.pooler.map_or_else(|| format!("{url}?"), |pooler| format!("{}&", pooler.through(url)));
        let broker = PostgresBroker::builder(&format!("{url}connections=6{}", self.parameters))?.open().await?;
        Ok(Arc::new(broker))
    }
}

impl Backend for Postgres {
    fn name(&self) -> &str {
        self.name
    }

    fn open<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Arc<dyn Broker>, BoxError>> {
        Answer::later(async { self.broker(&self.database(storage).await?).await })
    }

    fn remove<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<(), BoxError>> {
        Answer::later(async move {
            let (server, name) = (self.server, storage.to_owned());
            let drop_it = move || server.try_sql(&server.url(), &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).map(drop);
            Ok(tokio::task::spawn_blocking(drop_it).await??)
        })
    }

    fn open_without_dead_letters<'a>(&'a self, storage: &'a str) -> Answer<'a, Result<Option<Arc<dyn Broker>>, BoxError>> {
        Answer::later(async {
            let url = self.database(storage).await?;
            let broker = self.broker(&url).await?;
            let server = self.server;
            let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no more''; END'; \
                          CREATE TRIGGER refuse BEFORE INSERT ON abe_events.dead_letter FOR EACH ROW EXECUTE FUNCTION refuse()";
            tokio::task::spawn_blocking(move || server.try_sql(&url, refuse)).await??;
            Ok(Some(broker))
        })
    }
}

/// What the suite found, once for all tests that look at it; `None` where no server is installed.
pub(crate) fn report() -> Option<&'static Report> {
    static REPORT: OnceLock<Option<Report>> = OnceLock::new();
    REPORT.get_or_init(|| found("postgres, a database for each case", "")).as_ref()
}

fn found(name: &'static str, parameters: &'static str) -> Option<Report> {
    Some(run_all(Postgres { name, server: Server::shared()?, parameters, pooler: None }))
}

/// Prints the table, and fails by what it says.
#[test]
fn table() {
    let Some(report) = report() else { return };
    say(report);
    report.assert();
}

/// The same as behind a pooler that hands each transaction to any session: nothing is prepared, and nobody listens.
#[test]
fn table_as_behind_a_pooler() {
    let Some(report) = found("postgres, as behind a pooler, acks relaxed", "&pooler=transaction&acks=relaxed") else { return };
    say(&report);
    report.assert();
}

/// A real one: sessions change hands between transactions, and there are fewer of them than connections.
#[test]
fn table_through_pgbouncer() {
    let Some((server, pooler)) = Pooler::shared() else { return };
    let report = run_all(Postgres { name: "postgres, through PgBouncer", server, parameters: "", pooler: Some(pooler) });
    say(&report);
    report.assert();
}
