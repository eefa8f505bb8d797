//! The pipeline of the webhook example: own payloads, real ones if they are at hand, and the endpoint over HTTP.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

#[path = "../examples/webhooks/hub/mod.rs"]
mod hub;

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use self::hub::{Hub, Report};

const SAMPLES: &str = include_str!("../examples/webhooks/samples.jsonl");

/// Published, handled and dead of a kind.
fn numbers(report: &Report, name: &str) -> (u64, u64, u64) {
    let kind = report.kinds.iter().find(|kind| kind.name == name).expect("a kind that was published");
    (kind.published, kind.handled, kind.dead)
}

#[tokio::test]
async fn own_payloads_add_up() {
    let hub = Hub::start().await.unwrap();
    let lines = hub.publish_lines(SAMPLES).await.unwrap();
    let report = hub.finish().await.unwrap();
    assert!(report.adds_up(), "{report}");
    assert_eq!((report.published, report.handled, report.filtered, report.dead), (lines, 9, 1, 1), "{report}");
    // One with GitHub's fields and one of version 1; one is deleted, one is broken.
    assert_eq!(numbers(&report, "push"), (4, 2, 1), "{report}");
    assert_eq!(numbers(&report, "star"), (1, 1, 0), "{report}");
}

/// Payloads as GitHub sends them lie beside the repository, or not.
#[tokio::test]
async fn real_payloads_add_up() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/github-webhooks.jsonl");
    let Ok(payloads) = tokio::fs::read_to_string(&path).await else { return };
    let hub = Hub::start().await.unwrap();
    assert_eq!(hub.publish_lines(&payloads).await.unwrap(), 329);
    let report = hub.finish().await.unwrap();
    assert!(report.adds_up(), "{report}");
    // Honest contracts: not one real payload is unreadable. Four pushes deleted a tag.
    assert_eq!((report.published, report.handled, report.filtered, report.dead), (329, 325, 4, 0), "{report}");
    assert_eq!(numbers(&report, "pull_request"), (29, 29, 0), "{report}");
}

#[tokio::test]
async fn a_redelivery_over_http_is_handled_once() {
    let hub = Hub::start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn({
        let hub = hub.clone();
        async move { hub.serve(listener, async { drop(ended.await) }).await }
    });
    let push = r#"{"ref":"refs/heads/main","deleted":false,"commits":[],"head_commit":null,"repository":{"full_name":"a/b"},"pusher":{"name":"ada"}}"#;
    let both = |kind| format!("X-GitHub-Event: {kind}\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n");
    assert_eq!(post(address, &both("push"), push).await, 202);
    assert_eq!(post(address, &both("push"), push).await, 202, "a redelivery is taken, and skipped by the handler");
    assert_eq!(post(address, "X-GitHub-Event: ping\r\nX-GitHub-Delivery: 1\r\n", "not JSON, which nobody reads").await, 202);
    assert_eq!(post(address, "X-GitHub-Event: push\r\nX-GitHub-Delivery: 2\r\n", "not JSON").await, 202);
    assert_eq!(post(address, "X-GitHub-Event: push\r\n", push).await, 400, "no delivery id");
    assert_eq!(post(address, &both("no topic"), push).await, 400);
    end.send(()).unwrap();
    serving.await.unwrap().unwrap();
    let report = hub.finish().await.unwrap();
    assert!(report.adds_up(), "{report}");
    assert_eq!((report.published, report.handled, report.duplicates, report.dead), (4, 2, 1, 1), "{report}");
}

/// Posts over a connection of its own, and answers the status.
async fn post(address: SocketAddr, headers: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request =
        format!("POST /webhook HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
}
