//! A proxy between a client and a server that can lose what the server answers. Included by `#[path]`.

#![allow(unreachable_pub, dead_code, reason = "included from wherever it is needed, and each uses a part of it")]
#![allow(clippy::expect_used, reason = "a test that hands in another URL says so")]

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PASS: u8 = 0;
const SWALLOW: u8 = 1;
const CUT: u8 = 2;

/// Where a commit is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Before it gets to the server, which it never does.
    Unheard,
    /// When the server has done it, and nobody hears of it.
    Done,
}

/// What is to happen at a commit; then the connection breaks.
struct Ambush {
    at: Commit,
    then: Box<dyn FnOnce() + Send>,
}

/// What all connections share.
#[derive(Default)]
struct State {
    mode: AtomicU8,
    ambush: Mutex<Option<Ambush>>,
}

impl State {
    /// The ambush, if what a client says is a commit.
    fn sprung(&self, said: &[u8]) -> Option<Ambush> {
        const COMMIT: &[u8] = b"COMMIT\0";
        let mut ambush = self.ambush.lock().unwrap_or_else(PoisonError::into_inner);
        if said.windows(COMMIT.len()).any(|part| part == COMMIT) { ambush.take() } else { None }
    }
}

/// The proxy; it ends with its drop.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Proxy {
    pub async fn new(server: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (port, state) = (listener.local_addr()?.port(), Arc::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.mode.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let state = shared.clone();
                tokio::spawn(async move { pump(client, server, &state).await });
            }
        });
        Ok(Self { port, state, task })
    }

    /// The same URL, by way of the proxy.
    pub fn through(&self, url: &str) -> String {
        let (before, after) = url.split_once("@127.0.0.1:").expect("a URL of the test server");
        let (_, path) = after.split_once('/').expect("a database");
        format!("{before}@127.0.0.1:{}/{path}", self.port)
    }

    /// Everything passes.
    pub fn pass(&self) {
        self.state.mode.store(PASS, Ordering::SeqCst);
    }

    /// The client's words arrive, and then both ends see the connection break: no answer passes, nor any new connection.
    pub fn lose_answers(&self) {
        self.state.mode.store(SWALLOW, Ordering::SeqCst);
    }

    /// At the next commit by the simple protocol, whoever says it, something happens, and its connection breaks.
    pub fn at_commit(&self, at: Commit, then: impl FnOnce() + Send + 'static) {
        *self.state.ambush.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ambush { at, then: Box::new(then) });
    }

    /// New connections are refused.
    pub fn refuse(&self) {
        self.state.mode.store(CUT, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pump(mut client: TcpStream, mut server: TcpStream, state: &State) {
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read {
                Ok(count) if count > 0 => {
                    let said = &from_client[..count];
                    if let Some(ambush) = state.sprung(said) {
                        if ambush.at == Commit::Done {
                            let _ = server.write_all(said).await;
                            // It answers when it is done.
                            let _ = server.read(&mut from_server).await;
                        }
                        let _ = tokio::task::spawn_blocking(ambush.then).await;
                        return;
                    }
                    if server.write_all(said).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut from_server) => match read {
                // What was asked has been done; nobody hears of it.
                Ok(count) if count > 0 && state.mode.load(Ordering::SeqCst) == PASS => {
                    if client.write_all(&from_server[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
