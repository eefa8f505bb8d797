//! A private PgBouncer before the private PostgreSQL server of a test binary, included by `#[path]` beside `server`.
//!
//! Transaction mode and few server sessions, so that transactions of one client do come to different sessions. It ends with
//! the test binary, however that ends: a shell holds the other end of a pipe, stops it when that closes, and removes its folder.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it, from wherever it includes it")]
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test that cannot have its pooler says so")]

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::server::{Server, free_port, is_root, user_of};

/// Server sessions for each database; fewer than a program's connections.
pub const POOL: u32 = 4;

/// Holds the pooler's process and its folder until the pipe closes.
const REAPER: &str = r#"cat >/dev/null; kill -KILL "$1" 2>/dev/null; rm -rf "$2""#;

/// A pooler of our own.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    process: Child,
    _reaper: Child,
}

impl Pooler {
    /// The pooler all tests of this binary share, and the server behind it. `None`, and a line about it, where one of the
    /// two is not installed.
    ///
    /// # Panics
    ///
    /// Where one is missing though `CI=true`: there a part that is missing is a failure.
    pub fn shared() -> Option<(&'static Server, &'static Self)> {
        static SHARED: OnceLock<Option<Pooler>> = OnceLock::new();
        let server = Server::shared()?;
        let shared = SHARED.get_or_init(|| Some(Self::start(&program()?, server))).as_ref();
        if shared.is_none() {
            let _ = std::io::stdout().write_all(b"SKIPPED pgbouncer: not installed\n");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "pgbouncer: not installed, and nothing may be skipped here");
        }
        shared.map(|pooler| (server, pooler))
    }

    fn start(program: &Path, server: &Server) -> Self {
        // It refuses to run as root.
        let user = is_root().then(|| user_of("nobody")).flatten();
        let folder = std::env::temp_dir().join(format!("abe-events-pgbouncer-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).expect("a folder of one's own");
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).expect("root may give a folder away");
        }
        for _ in 0..20 {
            let port = free_port();
            let file = folder.join("pgbouncer.ini");
            std::fs::write(&file, settings(&folder, port, server.port())).expect("settings");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("settings that can be read");
            let mut command = Command::new(program);
            command.arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            if let Some((user, group)) = user {
                command.uid(user).gid(group).current_dir("/");
            }
            let mut process = command.spawn().expect("pgbouncer");
            if answers(&mut process, port, server) {
                let reaper = reaper(process.id(), &folder);
                return Self { port, process, _reaper: reaper };
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("no pgbouncer starts");
    }

    /// The URL of a database of the server, by way of the pooler, as abe-events is to be told of it.
    pub fn through(&self, url: &str) -> String {
        let (_, path) = url.rsplit_once('/').expect("a database");
        format!("postgres://postgres@127.0.0.1:{}/{path}?pooler=transaction", self.port)
    }
}

/// Where Debian puts it, or in the path.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|folder| folder.join("pgbouncer")).find(|file| file.is_file())
}

/// Nothing is passed over silently: `ignore_startup_parameters` stays empty, as it is where nobody has thought of it.
fn settings(folder: &Path, port: u16, server: u16) -> String {
    format!(
        "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = transaction\ndefault_pool_size = {POOL}\nmax_client_conn = 200\nserver_login_retry = 1\n\
         logfile = {log}\n",
        log = folder.join("log").display()
    )
}

fn reaper(pid: u32, folder: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", REAPER, "sh"]).arg(pid.to_string()).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().expect("a shell")
}

fn answers(process: &mut Child, port: u16, server: &Server) -> bool {
    let (url, end) = (format!("postgres://postgres@127.0.0.1:{port}/postgres"), Instant::now() + Duration::from_secs(30));
    while Instant::now() < end && matches!(process.try_wait(), Ok(None)) {
        if server.try_sql(&url, "SELECT 1").is_ok() {
            return matches!(process.try_wait(), Ok(None));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
