//! Signals, on a real process: this binary starts itself again and sends it SIGTERM.
#![cfg(unix)]
#![expect(clippy::print_stdout, reason = "the process under test tells its parent what happens")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use abe_events::{handlers, subscribe};

use super::support::{Ordered, builder};

/// What the process is to do, in its environment.
const ROLE: &str = "ABE_EVENTS_SIGNAL_ROLE";

#[subscribe]
async fn takes_its_time(_: &Ordered) {
    println!("begins");
    tokio::time::sleep(Duration::from_millis(400)).await;
    println!("ends");
}

#[subscribe(timeout = "none")]
async fn never_ends(_: &Ordered) {
    println!("begins");
    std::future::pending::<()>().await;
}

/// The process under test; a test like any other, which does nothing unless it was started for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let handlers = if role == "endless" { handlers![never_ends] } else { handlers![takes_its_time] };
    let runtime = builder().handlers(handlers.iter().copied()).start().await.unwrap();
    let mut stopped = std::pin::pin!(runtime.stopped());
    // From its first poll on a signal is taken; before, it would end the process.
    let first = std::future::poll_fn(|cx| std::task::Poll::Ready(stopped.as_mut().poll(cx))).await;
    assert!(first.is_pending());
    runtime.publish(Ordered::new(1)).await.unwrap();
    println!("stopped: {:?}", stopped.await);
}

fn start(role: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "signals::process", "--nocapture"]).env(ROLE, role).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

fn line_with(lines: &mut BufReader<ChildStdout>, text: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the process ended without saying {text:?}");
        if line.contains(text) {
            return line;
        }
    }
}

fn terminate(child: &Child) {
    let kill = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

#[test]
fn i37_sigterm_lets_what_runs_finish_and_then_ends() {
    let (mut child, mut lines) = start("in time");
    line_with(&mut lines, "begins");
    terminate(&child);
    line_with(&mut lines, "ends");
    assert!(line_with(&mut lines, "stopped:").contains("Ok(())"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn i37_a_second_sigterm_stops_at_once_and_names_what_ran() {
    let (mut child, mut lines) = start("endless");
    line_with(&mut lines, "begins");
    let began = std::time::Instant::now();
    // The first begins to drain; how soon the next is looked for is the process's affair, so more may be needed.
    let stopped = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| line_with(&mut lines, "stopped:"));
        while !waiting.is_finished() {
            terminate(&child);
            std::thread::park_timeout(Duration::from_millis(200));
        }
        waiting.join().unwrap()
    });
    assert!(stopped.contains("Timeout") && stopped.contains("never_ends"), "{stopped}");
    assert!(began.elapsed() < Duration::from_secs(25), "long before the grace time of 30 s: {:?}", began.elapsed());
    child.wait().unwrap();
}
