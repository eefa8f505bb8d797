//! A proxy between a client and a server that can lose what the server answers. Included by `#[path]`.

#![allow(unreachable_pub, reason = "included from wherever it is needed")]
#![allow(clippy::expect_used, reason = "a test that hands in another URL says so")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PASS: u8 = 0;
const SWALLOW: u8 = 1;
const CUT: u8 = 2;

/// The proxy; it ends with its drop.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn new(server: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (port, mode) = (listener.local_addr()?.port(), Arc::new(AtomicU8::new(PASS)));
        let state = mode.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if state.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let state = state.clone();
                tokio::spawn(async move { pump(client, server, &state).await });
            }
        });
        Ok(Self { port, mode, task })
    }

    /// The same URL, by way of the proxy.
    pub fn through(&self, url: &str) -> String {
        let (before, after) = url.split_once("@127.0.0.1:").expect("a URL of the test server");
        let (_, path) = after.split_once('/').expect("a database");
        format!("{before}@127.0.0.1:{}/{path}", self.port)
    }

    /// Everything passes.
    pub fn pass(&self) {
        self.mode.store(PASS, Ordering::SeqCst);
    }

    /// The client's words arrive, and then both ends see the connection break: no answer passes, nor any new connection.
    pub fn lose_answers(&self) {
        self.mode.store(SWALLOW, Ordering::SeqCst);
    }

    /// New connections are refused.
    pub fn refuse(&self) {
        self.mode.store(CUT, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pump(mut client: TcpStream, mut server: TcpStream, mode: &AtomicU8) {
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read {
                Ok(count) if count > 0 && server.write_all(&from_client[..count]).await.is_ok() => {}
                _ => return,
            },
            read = server.read(&mut from_server) => match read {
                // What was asked has been done; nobody hears of it.
                Ok(count) if count > 0 && mode.load(Ordering::SeqCst) == PASS => {
                    if client.write_all(&from_server[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
