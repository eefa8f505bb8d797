//! GitHub's webhooks: six kinds with typed contracts, all others as raw messages, and not one payload lost.
//!
//! ```sh
//! cargo run --example webhooks                               # a few payloads of our own
//! cargo run --example webhooks -- payloads.jsonl             # {"event": NAME, "payload": {...}} a line
//! cargo run --example webhooks -- --listen 127.0.0.1:8080    # POST /webhook, until SIGINT or SIGTERM; default 127.0.0.1:0
//! RUST_LOG=info cargo run --example webhooks                 # with a line for each payload
//! ```
//!
//! The contracts are in `hub/contracts.rs`, the handlers in `hub/handlers.rs`. Without an argument it prints:
//!
//! ```text
//! kind                           published handled dead
//! issue_comment                          1       1    0
//! issues                                 1       1    0
//! ping                                   1       1    0
//! pull_request                           1       1    0
//! push                                   4       2    1
//! release                                1       1    0
//! star                                   1       1    0
//! workflow_run                           1       1    0
//! dead letter: github.push: undecodable payload: missing field `deleted` at line 1 column 58
//! 11 published = 9 handled + 1 filtered + 0 duplicates + 1 dead: adds up
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

mod hub;

use abe_events::{Error, Result};
use tokio::net::TcpListener;

use self::hub::Hub;

const SAMPLES: &str = include_str!("samples.jsonl");

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let hub = Hub::start().await?;
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => drop(hub.publish_lines(SAMPLES).await?),
        Some("--listen") => listen(&hub, &arguments.next().unwrap_or_else(|| "127.0.0.1:0".into())).await?,
        Some(path) => drop(hub.publish_lines(&tokio::fs::read_to_string(path).await?).await?),
    }
    let report = hub.finish().await?;
    println!("{report}");
    if report.adds_up() { Ok(()) } else { Err(Error::msg("payloads were lost")) }
}

async fn listen(hub: &Hub, address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/webhook", listener.local_addr()?);
    hub.serve(listener, told_to_stop()).await
}

/// The endpoint closes first and the runtime drains afterwards, so that nothing is accepted that nobody will handle.
/// A program without an endpoint just waits for `runtime.stopped()`.
async fn told_to_stop() {
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
