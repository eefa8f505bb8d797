//! A disk that fills up and empties again under running processes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::args::Args;
use crate::herd::Role;
use crate::report::Row;
use crate::scene::Scene;
use crate::support::{Result, say};
use crate::target::Target;

const LEASE: Duration = Duration::from_secs(1);

/// How often the disk fills up.
const TIMES: u64 = 3;

/// A small file system of our own, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(name: &str) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("abe-events-chaos-{name}-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).ok()?;
        let quietly =
            |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|ended| ended.success());
        if quietly(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&folder)) {
            return Some(Self(folder));
        }
        let _ = std::fs::remove_dir(&folder);
        None
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// Writes until nothing more fits.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("ballast");
        let mut ballast = std::fs::File::create(&path)?;
        for size in [1 << 20, 1 << 12] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Publishes and handles while the disk is full again and again; `None` where nothing can be mounted.
pub(crate) async fn run(args: &Args) -> Result<Option<Row>> {
    let Some(disk) = Disk::mount("full") else {
        say("SKIPPED full disk: a small file system cannot be mounted here");
        return Ok(None);
    };
    let outside = Scene::sqlite("full", args, LEASE)?;
    let mut scene = Scene::on("full", outside.folder, Target::sqlite(disk.path()), args, LEASE);
    scene.first_worker().await?;
    let mut random = fastrand::Rng::with_seed(args.seed);
    for _ in 0..TIMES {
        scene.workers(2)?;
        if scene.herd.count(Role::Publisher) == 0 {
            scene.herd.start(Role::Publisher, 6_000, 0)?;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(300..900))).await;
        let ballast = disk.fill()?;
        tokio::time::sleep(Duration::from_millis(random.u64(300..1_200))).await;
        // One of them dies while nothing can be written.
        scene.faults.worker_kills += 1;
        scene.herd.kill(scene.herd.awake(Role::Worker).first().copied().unwrap_or(0))?;
        tokio::time::sleep(Duration::from_millis(random.u64(100..400))).await;
        std::fs::remove_file(ballast)?;
        scene.reap()?;
    }
    scene.heal().await?;
    let row = scene.end("SQLite, full disk".into()).await?;
    Ok(Some(Row { extra: format!("disk full {TIMES} times"), ..row }))
}
