//! `POST /webhook`: a payload in the body, its kind and its delivery's id in headers.
//!
//! What a hub in production also does, and this one does not: verify `X-Hub-Signature-256`.

use abe_events::{Error, ErrorKind, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;

use super::Hub;

impl Hub {
    /// Serves until `end`, and then finishes the requests that have begun.
    pub(crate) async fn serve(&self, listener: TcpListener, end: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let router = Router::new().route("/webhook", post(receive)).with_state(self.clone());
        Ok(axum::serve(listener, router).with_graceful_shutdown(end).await?)
    }
}

/// 202 means that the payload is stored; whether it can be handled is nothing that its sender could help with.
async fn receive(State(hub): State<Hub>, headers: HeaderMap, payload: Bytes) -> (StatusCode, String) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(kind), Some(delivery)) = (text("X-GitHub-Event"), text("X-GitHub-Delivery")) else {
        return (StatusCode::BAD_REQUEST, "X-GitHub-Event and X-GitHub-Delivery are needed\n".into());
    };
    match hub.publish(kind, None, Some(delivery), payload.to_vec()).await {
        Ok(id) => (StatusCode::ACCEPTED, format!("{id}\n")),
        Err(error) => (status_of(&error), format!("{error}\n")),
    }
}

fn status_of(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::InvalidName => StatusCode::BAD_REQUEST,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        // The sender delivers again, with the same id.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
