//! What the proxy does to a server that echoes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::{Mode, Proxy};

/// Long enough that nothing comes any more, if nothing is to come.
const SILENCE: Duration = Duration::from_millis(150);

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn proxied() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    (proxy, client)
}

async fn ask(client: &mut TcpStream, text: &str) -> std::io::Result<String> {
    client.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

/// What comes next, if anything does within a while.
async fn next(client: &mut TcpStream) -> Option<std::io::Result<usize>> {
    tokio::time::timeout(SILENCE, client.read(&mut [0; 64])).await.ok()
}

#[tokio::test]
async fn what_passes_is_what_was_sent() {
    let (proxy, mut client) = proxied().await;
    assert_eq!(ask(&mut client, "hello").await.unwrap(), "hello");
    let long = "0123456789".repeat(40_000);
    let (mut from, mut to) = client.split();
    let mut back = vec![0; long.len()];
    let (sent, read) = tokio::join!(to.write_all(long.as_bytes()), from.read_exact(&mut back));
    assert!(sent.is_ok() && read.is_ok() && back == long.as_bytes());
    to.shutdown().await.unwrap();
    assert_eq!(from.read(&mut [0; 8]).await.unwrap(), 0, "the end of one side goes on to the other, and comes back");
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn a_cut_ends_in_order_and_a_reset_does_not() {
    for (mode, orderly) in [(Mode::Cut, true), (Mode::Reset, false)] {
        let (proxy, mut client) = proxied().await;
        ask(&mut client, "hello").await.unwrap();
        proxy.set(mode);
        let ended = client.read(&mut [0; 8]).await;
        assert_eq!(matches!(ended, Ok(0)), orderly, "{mode:?}: {ended:?}");
        assert_eq!(ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), !orderly);
        let mut another = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert!(ask(&mut another, "hello").await.is_err(), "nothing passes until it is open again");
        proxy.set(Mode::Open);
        let mut another = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert_eq!(ask(&mut another, "hello").await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn a_freeze_holds_what_comes_until_it_thaws() {
    for mode in [Mode::Freeze, Mode::FreezeUp, Mode::FreezeDown] {
        let (proxy, mut client) = proxied().await;
        ask(&mut client, "hello").await.unwrap();
        proxy.set(mode);
        client.write_all(b"late").await.unwrap();
        assert!(next(&mut client).await.is_none(), "{mode:?}");
        proxy.set(Mode::Open);
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"late");
    }
}

#[tokio::test]
async fn a_lost_reply_was_asked_for_and_ends_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    proxy.set(Mode::LoseReply);
    client.write_all(b"commit").await.unwrap();
    let mut asked = [0; 6];
    server.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"commit", "the server has heard it");
    server.write_all(b"done").await.unwrap();
    let answered = next(&mut client).await;
    assert!(matches!(answered, Some(Ok(0) | Err(_))), "and the client never learns: {answered:?}");
}

#[tokio::test]
async fn what_is_slow_is_slow_and_whole() {
    let (proxy, mut client) = proxied().await;
    ask(&mut client, "hello").await.unwrap();
    let text = "0123456789".repeat(20);
    for (mode, least) in
        [(Mode::Delay(SILENCE), 2 * SILENCE), (Mode::Throttle(1_000), Duration::from_millis(200)), (Mode::Bytes, Duration::ZERO)]
    {
        proxy.set(mode);
        let began = Instant::now();
        assert_eq!(ask(&mut client, &text).await.unwrap(), text, "{mode:?}");
        assert!(began.elapsed() >= least.mul_f64(0.9), "{mode:?} took {:?}", began.elapsed());
    }
    proxy.set(Mode::Bytes);
    client.write_all(b"ab").await.unwrap();
    assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 1, "single bytes come singly");
}

#[tokio::test]
async fn it_ends_with_its_owner() {
    let (proxy, mut client) = proxied().await;
    let port = proxy.port();
    ask(&mut client, "hello").await.unwrap();
    drop(proxy);
    assert!(matches!(next(&mut client).await, Some(Ok(0) | Err(_))));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_held_goes_on_once_it_is_open() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let port = proxy.port();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..24 {
        let stop = stop.clone();
        clients.spawn(async move {
            let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let text = format!("{number:>6}").repeat(1 + number * 40);
            while !stop.is_cancelled() {
                assert_eq!(ask(&mut client, &text).await.unwrap(), text);
            }
        });
    }
    let modes = [
        Mode::FreezeUp,
        Mode::Freeze,
        Mode::FreezeDown,
        Mode::Bytes,
        Mode::Delay(Duration::from_millis(3)),
        Mode::Throttle(20_000),
        Mode::Open,
    ];
    for round in 0..84 {
        proxy.set(modes[round * 5 % modes.len()]);
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    proxy.set(Mode::Open);
    stop.cancel();
    let all = async {
        while let Some(ended) = clients.join_next().await {
            ended.unwrap()
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), all).await.is_ok(), "some are stuck");
}
