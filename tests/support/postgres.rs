//! A private PostgreSQL server for a test binary, included by `#[path]`.
//!
//! It lives in a folder of its own, listens on a free port of the loopback only, and ends with the test binary, however
//! that ends: a small shell holds the other end of a pipe, and when that closes it stops the server and removes the folder.
//! Statics are never dropped, and a test binary may be killed, so nothing else would do.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it, from wherever it includes it")]
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot have its server says so, and waits for it outside of any runtime"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to start; after a kill it waits for its orphans, and a loaded machine is slow.
const START: Duration = Duration::from_secs(90);

/// What the tests ask of it: durable, small, and able to prepare transactions.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=32MB",
    "max_connections=120",
    "max_prepared_transactions=8",
    "log_min_messages=fatal",
];

/// Stops the server and removes its folder when the pipe it reads from closes. The folder is removed only if it is ours.
const REAPER: &str = r#"
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid" 2>/dev/null || break
        sleep 0.25
    done
fi
rm -rf "$1"
"#;

/// The programs of PostgreSQL, and the user they run as.
#[derive(Debug, Clone)]
struct Programs {
    folder: PathBuf,
    /// PostgreSQL refuses to run as root.
    user: Option<(u32, u32)>,
}

impl Programs {
    /// Those in the path, or where Debian keeps them, the newest first.
    fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path)
            .filter_map(|folder| Some(folder.join("initdb").canonicalize().ok()?.parent()?.to_owned()))
            .collect();
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        versions.sort();
        folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
        let folder =
            folders.into_iter().find(|folder| ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).is_file()))?;
        Some(Self { folder, user: is_root().then(|| user_of("postgres").or_else(|| user_of("nobody"))).flatten() })
    }

    /// A program, as the user it must run as, apart from the signals of a terminal.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.env("LC_ALL", "C").env_remove("PGOPTIONS").stdin(Stdio::null()).process_group(0);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group).current_dir("/");
        }
        command
    }
}

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout.trim_ascii() == b"0")
}

pub fn user_of(name: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// A server of our own.
#[derive(Debug)]
pub struct Server {
    programs: Programs,
    folder: PathBuf,
    port: u16,
    process: Mutex<Option<Child>>,
    /// Its end of the pipe is what keeps the server alive.
    reaper: Option<Child>,
    databases: AtomicU32,
}

impl Server {
    /// The server all tests of this binary share. `None`, and a line about it, where no PostgreSQL is installed.
    ///
    /// # Panics
    ///
    /// Where none is installed though `CI=true`: there a part that is missing is a failure.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Server>> = OnceLock::new();
        let shared = SHARED.get_or_init(Self::find).as_ref();
        if shared.is_none() {
            // Past the test harness, which would keep it to itself.
            let _ = std::io::stdout().write_all(b"SKIPPED postgres: no server installed\n");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "postgres: no server installed, and nothing may be skipped here");
        }
        shared
    }

    /// A server for one test, which may kill it.
    pub fn own() -> Option<Self> {
        Self::shared().map(|shared| Self::start(shared.programs.clone()))
    }

    /// A server, if PostgreSQL is installed.
    pub fn find() -> Option<Self> {
        Programs::find().map(Self::start)
    }

    fn start(programs: Programs) -> Self {
        let folder = folder_for(&programs);
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let data = folder.join("data");
        let made = programs
            .command("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = Self { programs, folder, port: 0, process: Mutex::default(), reaper: Some(reaper), databases: AtomicU32::new(0) };
        for _ in 0..20 {
            server.port = free_port();
            if server.try_start() {
                return server;
            }
        }
        panic!("no server starts: {}", server.log());
    }

    /// Where it is reached: a URL of its first database, as its superuser.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a new, empty database, so that tests can share a server and nothing else.
    pub fn database(&self, name: &str) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let tidy: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).take(40).collect();
        let database = format!("t{number}_{tidy}");
        self.sql(&self.url(), &format!("CREATE DATABASE {database}"));
        self.url_of(&database)
    }

    /// What a statement answers, a line for each row, columns apart by `|`.
    ///
    /// # Panics
    ///
    /// When the statement fails.
    pub fn sql(&self, url: &str, statement: &str) -> String {
        self.try_sql(url, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// The same, or what the server says against it.
    pub fn try_sql(&self, url: &str, statement: &str) -> Result<String, String> {
        // Parameters in a URL may be for somebody else.
        let url = url.split('?').next().unwrap_or(url);
        let said = self.programs.command("psql").args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement]).output();
        let said = said.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
    }

    /// A psql to be talked to through pipes: a session of another program, in the middle of a transaction for instance.
    pub fn session(&self, url: &str) -> Session {
        let mut command = self.programs.command("psql");
        let process = command
            .args(["-XqAt", "-v", "ON_ERROR_STOP=0", "-d", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql");
        Session { process, asked: 0 }
    }

    /// `kill -9` of the server and of every process it started: those do not die with it.
    pub fn kill9(&self) {
        let mut process = self.process();
        let Some(mut child) = process.take() else { return };
        let server = child.id();
        // Stopped first, so that it starts nobody between the look and the kill.
        signal("STOP", &[server]);
        let mut all = children_of(server);
        all.push(server);
        signal("KILL", &all);
        let _ = child.wait();
        let gone = Instant::now() + Duration::from_secs(10);
        while all.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) && Instant::now() < gone {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it in its tracks, with all it has started: connections stay open, and nobody answers.
    pub fn freeze(&self) {
        self.signal_all("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, name: &str) {
        if let Some(server) = self.process().as_ref().map(Child::id) {
            let mut all = vec![server];
            all.extend(children_of(server));
            signal(name, &all);
        }
    }

    /// Starts it again where it was, on the same port.
    pub fn start_again(&self) {
        let end = Instant::now() + START;
        while Instant::now() < end {
            if self.try_start() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("the server does not come back: {}", self.log());
    }

    fn try_start(&self) -> bool {
        let mut process = self.process();
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.folder.join("data")).arg("-p").arg(self.port.to_string());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if std::env::var_os("ABE_POSTGRES_UNSYNCED").is_some() {
            // For long campaigns in which no server is killed.
            command.args(["-c", "synchronous_commit=off"]);
        }
        let mut child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("postgres");
        let end = Instant::now() + START;
        let url = self.url();
        while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
            if self.try_sql(&url, "SELECT 1").is_ok() && matches!(child.try_wait(), Ok(None)) {
                *process = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.thaw();
        self.kill9();
        if let Some(mut reaper) = self.reaper.take() {
            drop(reaper.stdin.take());
            let _ = reaper.wait();
        }
    }
}

/// Another program's session.
#[derive(Debug)]
pub struct Session {
    process: Child,
    asked: u32,
}

impl Session {
    /// Sends statements and waits until they are done; answers what they said.
    pub fn run(&mut self, statements: &str) -> String {
        self.send(statements);
        self.wait()
    }

    /// Sends statements without waiting.
    pub fn send(&mut self, statements: &str) {
        self.asked += 1;
        let text = format!("{statements};\n\\echo done-{}\n", self.asked);
        self.process.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("psql reads");
    }

    /// Waits for the end of what was sent last.
    pub fn wait(&mut self) -> String {
        let (mark, mut said) = (format!("done-{}\n", self.asked), String::new());
        let mut byte = [0];
        while !said.ends_with(&mark) {
            let read = self.process.stdout.as_mut().expect("a pipe").read(&mut byte).expect("psql says something");
            assert!(read > 0, "psql ended: {said}");
            said.push(char::from(byte[0]));
        }
        said.truncate(said.len() - mark.len());
        said.trim_end().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder only the server's user can read, under the build's folder if that user can come in there.
fn folder_for(programs: &Programs) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("abe-events-postgres-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let places = option_env!("CARGO_TARGET_TMPDIR").map(PathBuf::from).into_iter().chain([std::env::temp_dir()]);
    for place in places {
        let folder = place.join(&name);
        if std::fs::create_dir_all(&folder).is_err() {
            continue;
        }
        if let Some((user, group)) = programs.user {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).expect("root may give a folder away");
        }
        let mut probe = Command::new("test");
        probe.arg("-w").arg(&folder);
        if let Some((user, group)) = programs.user {
            probe.uid(user).gid(group).current_dir("/");
        }
        if probe.status().is_ok_and(|status| status.success()) {
            return folder;
        }
        let _ = std::fs::remove_dir(&folder);
    }
    panic!("no folder can be made for a server");
}

/// A port nobody listens on at this moment, above those of servers that people run.
pub fn free_port() -> u16 {
    let mut random = [0; 2];
    loop {
        File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).expect("random numbers");
        let port = 40_000 + u16::from_ne_bytes(random) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in brackets may hold anything; behind it stand the state and the parent.
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&parent.to_string())
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

fn signal(name: &str, pids: &[u32]) {
    let _ = Command::new("kill").arg(format!("-{name}")).args(pids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
}
