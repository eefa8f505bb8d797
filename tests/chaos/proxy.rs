//! A TCP proxy that does harm on command: between a client and its server it cuts, resets, freezes, delays, throttles,
//! splits into single bytes, and loses a reply.
//!
//! What is commanded holds for all connections, those that are there and those to come, until the next command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::Result;

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// What is done to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// Nothing.
    #[default]
    Open,
    /// Every connection ends, and new ones end at once: in order.
    Cut,
    /// The same, without a word of farewell: RST.
    Reset,
    /// What comes from the client is held.
    FreezeUp,
    /// What comes from the server is held.
    FreezeDown,
    /// Both are held: a black hole.
    Freeze,
    /// Each piece comes so much later.
    Delay(Duration),
    /// So many bytes a second in each direction.
    Throttle(u32),
    /// Every byte comes alone.
    Bytes,
    /// Requests arrive, and every reply is lost; then the connection ends.
    LoseReply,
}

/// Which way something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Mode {
    fn holds(self, way: Way) -> bool {
        match self {
            Self::Freeze => true,
            Self::FreezeUp => way == Way::Up,
            Self::FreezeDown => way == Way::Down,
            _ => false,
        }
    }

    fn ends(self) -> bool {
        matches!(self, Self::Cut | Self::Reset)
    }
}

/// The proxy. It ends when it is dropped, and its connections with it.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Reset);
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port of the loopback, and passes on to a server.
    pub(crate) async fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (mode, commands) = watch::channel(Mode::Open);
        let accepted = Arc::new(AtomicU64::new(0));
        let counted = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(client, server, commands.clone()));
            }
        });
        Ok(Self { port, mode, accepted, task })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections there have been: for its own tests.
    #[allow(dead_code, reason = "the campaign does not ask")]
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// From now on this holds.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// One connection, to its end.
async fn serve(client: TcpStream, server: SocketAddr, mut commands: watch::Receiver<Mode>) {
    let now = *commands.borrow_and_update();
    let _ = client.set_nodelay(true);
    if now.ends() {
        return end(client, now);
    }
    let Ok(upstream) = TcpStream::connect(server).await else { return end(client, Mode::Cut) };
    let _ = upstream.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let stop = CancellationToken::new();
    let both = async {
        tokio::join!(
            pump(&mut from_client, &mut to_server, Way::Up, commands.clone(), &stop),
            pump(&mut from_server, &mut to_client, Way::Down, commands.clone(), &stop)
        )
    };
    let mut ending = commands.clone();
    tokio::select! {
        _ = both => {}
        _ = ending.wait_for(|mode| mode.ends()) => {}
        () = stop.cancelled() => {}
    }
    let how = *commands.borrow();
    for whole in [from_client.reunite(to_client), from_server.reunite(to_server)].into_iter().flatten() {
        end(whole, how);
    }
}

/// Ends a connection: in order, or by RST.
fn end(stream: TcpStream, how: Mode) {
    if how == Mode::Reset {
        let _ = stream.set_zero_linger();
    }
    drop(stream);
}

/// Passes on in one direction until its end is closed, which it passes on as well; whatever else ends it stops both.
async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, way: Way, mut commands: watch::Receiver<Mode>, stop: &CancellationToken) {
    let mut piece = vec![0; PIECE];
    loop {
        let mode = *commands.borrow_and_update();
        if mode.holds(way) {
            if commands.changed().await.is_err() {
                return stop.cancel();
            }
            continue;
        }
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            changed = commands.changed() => if changed.is_ok() { continue } else { return stop.cancel() },
        };
        match read {
            Ok(0) => {
                let _ = to.shutdown().await;
                return;
            }
            // What was commanded while it waited holds for what it read.
            Ok(count) if pass_on(to, &piece[..count], way, &mut commands).await => {}
            _ => return stop.cancel(),
        }
    }
}

/// Passes a piece on as the mode of the moment says; `false` when the connection is to end.
async fn pass_on(to: &mut OwnedWriteHalf, piece: &[u8], way: Way, commands: &mut watch::Receiver<Mode>) -> bool {
    loop {
        let mode = *commands.borrow_and_update();
        match mode {
            mode if mode.holds(way) => {
                if commands.changed().await.is_err() {
                    return false;
                }
                continue;
            }
            Mode::LoseReply if way == Way::Down => return false,
            Mode::Delay(time) => tokio::time::sleep(time).await,
            Mode::Bytes => {
                for byte in piece {
                    if to.write_all(&[*byte]).await.is_err() {
                        return false;
                    }
                    tokio::task::yield_now().await;
                }
                return true;
            }
            Mode::Throttle(rate) => {
                for part in piece.chunks(usize::try_from(rate / 20).unwrap_or(1).max(1)) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if to.write_all(part).await.is_err() {
                        return false;
                    }
                }
                return true;
            }
            _ => {}
        }
        return to.write_all(piece).await.is_ok();
    }
}
