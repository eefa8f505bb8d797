//! Every example runs to its end and prints what its first lines say it prints, so that no header can lie.
//!
//! The expected lines are the first `text` block of the example's own documentation; `…` stands for anything.
#![expect(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether lines of handlers that run side by side may change places.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    AsWritten,
    Any,
}

#[test]
fn orders() {
    check("orders", "orders/main.rs", Order::Any);
}

#[test]
fn orders_in_memory() {
    check_with("orders", "orders/main.rs", Order::Any, |program| program.env("ABE_EVENT_URL", "memory://"));
}

#[test]
fn orders_of_a_run_that_died_are_handled_by_the_next() {
    let place = Place::new("crash");
    let (died, first) = run(place.program("orders").arg("crash"));
    assert!(!died && first.iter().any(|line| line.starts_with("crash ")), "it ended well: {first:#?}");
    let (well, second) = run(&mut place.program("orders"));
    assert!(well && second.iter().any(|line| line.starts_with("left ")), "nothing was left: {second:#?}");
    let all: Vec<&String> = first.iter().chain(&second).collect();
    for (order, sku) in [(1, "teapot"), (2, "kettle"), (3, "samovar"), (4, "cups")] {
        let packed = format!("pack      order {order}: 2 x {sku}");
        let times = all.iter().filter(|line| ***line == packed).count();
        // Packed and not yet acked when the program died: then once more, and never less.
        assert!(times >= 2, "order {order} was packed {times} times in two runs: {all:#?}");
    }
}

#[test]
fn webhooks() {
    check("webhooks", "webhooks/main.rs", Order::AsWritten);
}

#[test]
fn filters() {
    check("filters", "filters.rs", Order::Any);
}

#[test]
fn batches() {
    check("batches", "batches.rs", Order::AsWritten);
}

#[test]
fn retries() {
    check("retries", "retries.rs", Order::AsWritten);
}

#[test]
fn versions() {
    check("versions", "versions.rs", Order::AsWritten);
}

#[test]
fn ordered() {
    check("ordered", "ordered.rs", Order::AsWritten);
}

#[test]
fn state() {
    check("state", "state.rs", Order::AsWritten);
}

#[test]
fn shutdown() {
    check("shutdown", "shutdown.rs", Order::AsWritten);
}

#[test]
fn outbox() {
    check("outbox", "outbox.rs", Order::Any);
}

#[test]
fn exactly_one_effect() {
    check("exactly_one_effect", "exactly_one_effect.rs", Order::AsWritten);
}

#[test]
fn own_backend() {
    check("own_backend", "own_backend.rs", Order::AsWritten);
}

#[test]
fn testing() {
    check("testing", "testing.rs", Order::AsWritten);
    let output = cargo().args(["test", "--quiet", "--example", "testing"]).args(PROFILE).output().expect("cargo runs");
    assert!(output.status.success(), "the example's tests fail:\n{}", String::from_utf8_lossy(&output.stdout));
}

/// The profile of this test, so that nothing is built twice.
const PROFILE: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

/// The examples' programs: built once, by the cargo that runs this test.
fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let output = cargo().args(["build", "--examples", "--message-format=json"]).args(PROFILE).output().expect("cargo runs");
        assert!(output.status.success(), "the examples do not build:\n{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        messages.filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from)).collect()
    });
    let found = built.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
    found.unwrap_or_else(|| panic!("no program of the example {name} was built")).clone()
}

/// The first `text` block of a file's documentation.
fn promised(source: &str) -> Vec<String> {
    let docs = source.lines().map_while(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    docs.skip_while(|line| *line != "```text").skip(1).take_while(|line| *line != "```").map(|line| line.trim_end().to_owned()).collect()
}

/// A folder of its own: whatever an example keeps goes with it, and no `config.yaml` of whoever runs this is read.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("abe-events-example-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn program(&self, name: &str) -> Command {
        let mut program = Command::new(program(name));
        program.current_dir(&self.0).env_remove("RUST_LOG").env_remove("ABE_EVENT_URL");
        program
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a program ended well, and the lines it printed; with those of its errors if it did not.
fn run(program: &mut Command) -> (bool, Vec<String>) {
    let output = program.output().expect("it runs");
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    let mut printed = lines(&output.stdout);
    if !output.status.success() {
        printed.extend(lines(&output.stderr));
    }
    (output.status.success(), printed)
}

fn check(name: &str, path: &str, order: Order) {
    check_with(name, path, order, |program| program);
}

fn check_with(name: &str, path: &str, order: Order, set: impl FnOnce(&mut Command) -> &mut Command) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path);
    let promised = promised(&std::fs::read_to_string(source).expect("the example's source"));
    assert!(!promised.is_empty(), "{path} does not say what it prints");
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let place = Place::new(&format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let (well, printed) = run(set(&mut place.program(name)));
    assert!(well, "{name} fails: {printed:#?}");
    let mut printed: Vec<&str> = printed.iter().map(String::as_str).collect();
    let mut missing = Vec::new();
    for line in &promised {
        let at = match order {
            Order::AsWritten => (!printed.is_empty() && fits(line, printed[0])).then_some(0),
            Order::Any => printed.iter().position(|printed| fits(line, printed)),
        };
        match at {
            Some(at) => drop(printed.remove(at)),
            None => missing.push(line),
        }
    }
    assert!(missing.is_empty() && printed.is_empty(), "{name} promised, and did not print: {missing:#?}\nand also printed: {printed:#?}");
}

/// Whether a line is as promised, with `…` for anything.
fn fits(promised: &str, printed: &str) -> bool {
    let mut parts = promised.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(fits("a … b … c", "a 1 b 2 c") && fits("up …", "up 3 s") && fits("same", "same"));
    assert!(!fits("a … b", "a 1 c") && !fits("same", "same and more") && !fits("up …", "down"));
}
