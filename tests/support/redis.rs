//! A private Redis server for a test binary, included by `#[path]`.
//!
//! It lives in a folder of its own, listens on a free port of the loopback only, and ends with the test binary, however that
//! ends: a small shell holds the other end of a pipe, and when that closes it kills the server and removes the folder.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it, from wherever it includes it")]
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot have its server says so, and waits for it outside of any runtime"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to start; a loaded machine is slow.
const START: Duration = Duration::from_secs(60);

/// Kills the server whose number stands in the folder, and removes it, when the pipe it reads from closes.
const REAPER: &str = r#"
cat >/dev/null
pid=$(cat "$1/pid" 2>/dev/null)
[ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
rm -rf "$1"
"#;

/// A server of our own.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    process: Mutex<Option<Child>>,
    /// Its end of the pipe is what keeps the server alive.
    reaper: Option<Child>,
    prefixes: AtomicU32,
    /// Lines of its configuration, behind which those of a test stand.
    more: String,
}

impl Server {
    /// The server all tests of this binary share. `None`, and a line about it, where none is installed.
    ///
    /// # Panics
    ///
    /// Where none is installed though `CI=true`: there a part that is missing is a failure.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Server>> = OnceLock::new();
        let shared = SHARED.get_or_init(Self::find).as_ref();
        if shared.is_none() {
            // Past the test harness, which would keep it to itself.
            let _ = std::io::stdout().write_all(b"SKIPPED redis: no server installed\n");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "redis: no server installed, and nothing may be skipped here");
        }
        shared
    }

    /// A server for one test, which may kill it.
    pub fn own() -> Option<Self> {
        Self::own_with("")
    }

    /// A server for one test, with some more lines of configuration.
    pub fn own_with(more: &str) -> Option<Self> {
        Self::shared().map(|shared| Self::start(shared.program.clone(), more))
    }

    /// A server, if one is installed.
    pub fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/local/bin".into()]);
        folders.map(|folder| folder.join("redis-server")).find(|program| program.is_file()).map(|program| Self::start(program, ""))
    }

    fn start(program: PathBuf, more: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("abe-events-redis-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from).join(name);
        std::fs::create_dir_all(&folder).expect("a folder for a server");
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut server = Self {
            program,
            folder,
            port: 0,
            process: Mutex::default(),
            reaper: Some(reaper),
            prefixes: AtomicU32::new(0),
            more: more.to_owned(),
        };
        for _ in 0..20 {
            server.port = free_port();
            if server.try_start() {
                return server;
            }
        }
        panic!("no server starts: {}", server.log());
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts it and waits until it answers; whether it did.
    fn try_start(&self) -> bool {
        let config = format!(
            "bind 127.0.0.1\nport {}\ndir {}\npidfile {}\nlogfile {}\nsave \"\"\nappendonly yes\nappendfsync always\n\
             user default on >hunter2 allkeys allchannels allcommands\n{}\n{}\n",
            self.port,
            self.folder.display(),
            self.folder.join("pid").display(),
            self.folder.join("log").display(),
            user(),
            self.more
        );
        std::fs::write(self.folder.join("conf"), config).expect("a folder that can be written");
        let mut command = Command::new(&self.program);
        command.arg(self.folder.join("conf")).process_group(0);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server");
        // A server in the foreground writes its number itself only as a daemon.
        std::fs::write(self.folder.join("pid"), child.id().to_string()).expect("a folder that can be written");
        *self.process() = Some(child);
        let began = Instant::now();
        while began.elapsed() < START {
            if self.process().as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_some())) {
                return false;
            }
            if self.answers() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Whether it answers, and so has read what it had stored.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut answer = [0; 12];
        let asked = stream.write_all(b"AUTH default hunter2\r\nPING\r\n").is_ok();
        asked && stream.read_exact(&mut answer).is_ok() && &answer == b"+OK\r\n+PONG\r\n"
    }

    /// Where it is reached: a URL of a prefix of its own.
    pub fn prefix(&self, name: &str) -> String {
        let tidy: String = name.chars().filter(char::is_ascii_alphanumeric).take(30).collect();
        self.url_of(&format!("t{}_{tidy}", self.prefixes.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn url_of(&self, prefix: &str) -> String {
        format!("redis://:hunter2@127.0.0.1:{}/?prefix={prefix}", self.port)
    }

    /// For other clients.
    pub fn address(&self) -> String {
        format!("redis://:hunter2@127.0.0.1:{}/", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`.
    pub fn kill9(&self) {
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was.
    pub fn restart(&self) {
        let began = Instant::now();
        while !self.try_start() {
            assert!(began.elapsed() < START, "the server does not start again: {}", self.log());
        }
    }

    /// Stops it in its tracks: connections stay open, and nobody answers.
    pub fn freeze(&self) {
        self.signal("STOP");
        while !self.stands() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether all its threads have stopped.
    fn stands(&self) -> bool {
        let process = self.process();
        let Some(child) = process.as_ref() else { return true };
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
        // The name in brackets may hold anything; behind it stands the state.
        let state = |thread: PathBuf| std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
        threads.map(|thread| state(thread.path())).all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        if let Some(child) = self.process().as_ref() {
            let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if let Some(mut reaper) = self.reaper.take() {
            drop(reaper.stdin.take());
            let _ = reaper.wait();
        }
    }
}

/// The user that the guide makes for the prefix `shop`.
fn user() -> &'static str {
    let guide = include_str!("../../docs/guide/redis.md");
    guide.split_once("```text\n").and_then(|(_, rest)| rest.split_once("```")).map_or("", |(block, _)| block.trim())
}

/// A port nobody listens on at this moment, above those of servers that people run.
fn free_port() -> u16 {
    let mut random = [0; 2];
    loop {
        std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).expect("random numbers");
        let port = 40_000 + u16::from_ne_bytes(random) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
