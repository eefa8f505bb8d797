//! Random faults on processes that share a broker: kills, zombies, rolling restarts; a file that is kept locked, or a server
//! that is killed and a network that does harm.

#[cfg(feature = "postgres")]
use std::net::SocketAddr;
#[cfg(feature = "postgres")]
use std::sync::Arc;
use std::time::Duration;

use crate::args::Args;
use crate::herd::Role;
#[cfg(feature = "postgres")]
use crate::proxy::{Mode, Proxy};
use crate::report::Row;
use crate::scene::Scene;
#[cfg(feature = "postgres")]
use crate::server::Server;
use crate::support::{Result, say};
#[cfg(feature = "postgres")]
use crate::target::Target;
use crate::worker::PAUSE;

/// How long a delivery may stay unsettled: short, so that a run sees many leases end.
const LEASE: Duration = Duration::from_secs(2);

/// How many events may wait before publishers do, and how few before they go on.
const BACKLOG_MAX: u64 = 30_000;
const BACKLOG_MIN: u64 = 10_000;

const PUBLISHERS: usize = 2;

/// How many events a publisher process publishes at most before it makes room for the next.
const SHARE: u64 = 50_000;

/// What may be done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    KillPublisher,
    Zombie,
    Restart,
    Lock,
    #[cfg(feature = "postgres")]
    Server,
    #[cfg(feature = "postgres")]
    Network,
}

/// A server, and the way to it.
#[cfg(feature = "postgres")]
struct Network {
    server: Arc<Server>,
    proxy: Proxy,
}

struct Campaign<'a> {
    args: &'a Args,
    scene: Scene,
    /// Where the broker is a server.
    #[cfg(feature = "postgres")]
    network: Option<Network>,
    random: fastrand::Rng,
    paused: bool,
}

/// Runs on one file until so many events are stored and so many workers killed, heals, waits, checks.
pub(crate) async fn on_sqlite(args: &Args) -> Result<Row> {
    let scene = Scene::sqlite("kills", args, LEASE)?;
    Campaign::new(args, scene).run("SQLite, random faults").await
}

/// The same on a server of our own, through a proxy.
#[cfg(feature = "postgres")]
pub(crate) async fn on_postgres(args: &Args) -> Result<Option<Row>> {
    let Some(server) = Server::find() else {
        say("SKIPPED postgres: no server installed");
        if std::env::var("CI").as_deref() == Ok("true") {
            return Err("no PostgreSQL is installed, and nothing may be skipped here".into());
        }
        return Ok(None);
    };
    let (server, folder) = (Arc::new(server), crate::scene::folder("postgres")?);
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port()))).await?;
    let url = server.database("chaos");
    let mut scene = Scene::on("postgres", folder, Target::Postgres(server.clone(), url.clone()), args, LEASE);
    // A black hole is noticed within the time that a call may take.
    scene.herd.setting.url = format!("{}?timeout=5", url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port())));
    let mut campaign = Campaign::new(args, scene);
    campaign.network = Some(Network { server, proxy });
    campaign.run("PostgreSQL, random faults").await.map(Some)
}

#[cfg(not(feature = "postgres"))]
pub(crate) async fn on_postgres(_: &Args) -> Result<Option<Row>> {
    Err("built without the feature `postgres`".into())
}

impl<'a> Campaign<'a> {
    fn new(args: &'a Args, scene: Scene) -> Self {
        let random = fastrand::Rng::with_seed(args.seed);
        Self {
            args,
            scene,
            #[cfg(feature = "postgres")]
            network: None,
            random,
            paused: false,
        }
    }

    async fn run(mut self, label: &str) -> Result<Row> {
        self.scene.first_worker_with_ledger().await?;
        while !self.is_enough() {
            if self.scene.began.elapsed() > self.args.limit {
                say(format!("the time was over at {} events and {} kills", self.scene.herd.stored(), self.scene.faults.worker_kills));
                break;
            }
            self.keep_up()?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(50..900))).await;
            self.fault().await?;
        }
        self.scene.heal().await?;
        self.scene.end(label.to_owned()).await
    }

    fn is_enough(&self) -> bool {
        let faults = &self.scene.faults;
        let done = match self.args.only.as_deref() {
            Some("zombies") => faults.zombies,
            Some("restarts") => faults.restarts,
            Some("server") => faults.server_kills,
            Some("network") => faults.of_network,
            _ => faults.worker_kills,
        };
        self.scene.herd.stored() >= self.args.events && done >= self.args.kills
    }

    /// Starts what is missing, wakes what has slept enough, and holds publishers back when much waits.
    fn keep_up(&mut self) -> Result {
        self.scene.reap()?;
        self.scene.herd.wake(false)?;
        self.scene.workers(self.args.workers)?;
        while self.scene.herd.count(Role::Publisher) < PUBLISHERS {
            let count = SHARE.min(self.args.events / 4 + 1);
            self.scene.herd.start(Role::Publisher, u32::try_from(count)?, 0)?;
        }
        let Some(pending) = self.scene.herd.pending() else { return Ok(()) };
        let (pause, file) = (pending > if self.paused { BACKLOG_MIN } else { BACKLOG_MAX }, self.scene.folder.join(PAUSE));
        if pause && !self.paused {
            std::fs::write(file, "")?;
        } else if !pause && self.paused {
            std::fs::remove_file(file)?;
        }
        self.paused = pause;
        Ok(())
    }

    /// What is done next.
    fn draw(&mut self) -> Fault {
        #[cfg(feature = "postgres")]
        if self.network.is_some() {
            return match (self.args.only.as_deref(), self.random.u32(0..100)) {
                (Some("kills"), _) | (None, 0..34) => Fault::Kill,
                (Some("zombies"), _) | (None, 34..48) => Fault::Zombie,
                (Some("restarts"), _) | (None, 48..52) => Fault::Restart,
                (Some("server"), _) | (None, 52..57) => Fault::Server,
                (Some("network"), _) | (None, 57..93) => Fault::Network,
                _ => Fault::KillPublisher,
            };
        }
        match (self.args.only.as_deref(), self.random.u32(0..100)) {
            (Some("kills"), _) | (None, 0..70) => Fault::Kill,
            (Some("zombies"), _) | (None, 85..92) => Fault::Zombie,
            (Some("restarts"), _) | (None, 92..97) => Fault::Restart,
            (_, 70..85) => Fault::KillPublisher,
            _ => Fault::Lock,
        }
    }

    async fn fault(&mut self) -> Result {
        let fault = self.draw();
        let awake = self.scene.herd.awake(if fault == Fault::KillPublisher { Role::Publisher } else { Role::Worker });
        let Some(at) = self.random.choice(&awake).copied() else { return Ok(()) };
        let (faults, herd) = (&mut self.scene.faults, &mut self.scene.herd);
        match fault {
            Fault::Kill => {
                faults.worker_kills += 1;
                herd.kill(at)
            }
            Fault::KillPublisher => {
                faults.publisher_kills += 1;
                herd.kill(at)
            }
            Fault::Zombie if awake.len() > 1 => {
                faults.zombies += 1;
                herd.stop(at, LEASE + Duration::from_millis(self.random.u64(100..1_500)))
            }
            // Somebody has to stay awake.
            Fault::Zombie => Ok(()),
            Fault::Restart => {
                faults.restarts += 1;
                herd.terminate(at).await
            }
            Fault::Lock => self.keep_locked().await,
            #[cfg(feature = "postgres")]
            Fault::Server => self.kill_server().await,
            #[cfg(feature = "postgres")]
            Fault::Network => self.harm_network().await,
        }
    }

    /// `kill -9` of the server and all its processes; all workers lose what is on its way.
    #[cfg(feature = "postgres")]
    async fn kill_server(&mut self) -> Result {
        let Some(network) = &self.network else { return Ok(()) };
        self.scene.faults.server_kills += 1;
        self.scene.herd.lose_server();
        tokio::task::block_in_place(|| network.server.kill9());
        tokio::time::sleep(Duration::from_millis(self.random.u64(0..500))).await;
        tokio::task::block_in_place(|| network.server.start_again());
        Ok(())
    }

    /// Cuts, resets, holds, delays, or loses replies for a while.
    #[cfg(feature = "postgres")]
    async fn harm_network(&mut self) -> Result {
        let Some(network) = &self.network else { return Ok(()) };
        self.scene.faults.of_network += 1;
        let modes = [
            (Mode::Cut, 300),
            (Mode::Reset, 300),
            (Mode::LoseReply, 600),
            (Mode::FreezeUp, 1_500),
            (Mode::FreezeDown, 1_500),
            (Mode::Freeze, 3_500),
            (Mode::Delay(Duration::from_millis(self.random.u64(5..80))), 1_500),
            (Mode::Throttle(self.random.u32(20_000..400_000)), 1_500),
            (Mode::Bytes, 800),
        ];
        let (mode, longest) = modes[self.random.usize(0..modes.len())];
        network.proxy.set(mode);
        tokio::time::sleep(Duration::from_millis(self.random.u64(50..longest))).await;
        network.proxy.set(Mode::Open);
        Ok(())
    }

    /// Another process keeps the file locked, sometimes for longer than the broker waits.
    async fn keep_locked(&mut self) -> Result {
        let time = Duration::from_millis(if self.random.u32(0..4) == 0 { 6_000 } else { self.random.u64(200..2_500) });
        let connection = self.scene.target.open()?;
        connection.busy_timeout(Duration::from_millis(300))?;
        if connection.execute_batch("BEGIN IMMEDIATE").is_err() {
            // A stopped process may hold it, and would not be woken while this one waits.
            return Ok(());
        }
        self.scene.faults.locks += 1;
        tokio::time::sleep(time).await;
        Ok(connection.execute_batch("ROLLBACK")?)
    }
}
