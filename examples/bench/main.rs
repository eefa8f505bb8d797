//! The budgets of the memory broker, measured: hand-written loops and abe-events, interleaved, in one run.
//!
//! ```text
//! cargo run --release --example bench                      every row, 15 rounds
//! cargo run --release --example bench -- short             fewer rounds, fewer messages
//! cargo run --release --example bench -- fresh json        some rows
//! cargo run --release --example bench -- one fresh abe-events 1000000    one contestant once, for a profiler
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

mod event;
mod harness;
mod machine;
mod ours;
mod rows;
mod twins;
mod wide;
mod work;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [one, row, contestant, messages] = &arguments[..]
        && one == "one"
    {
        return profile(row, contestant, messages.parse().unwrap_or(100_000));
    }
    let short = arguments.iter().any(|argument| argument == "short");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| *argument != "short").collect();
    let (rounds, scale) = if short { (5, 4) } else { (15, 1) };
    println!("{}", machine::describe());
    println!(
        "payload: {} bytes of JSON; ratios are medians of per-round ratios to a row's first line; ≈: indistinguishable from it",
        twins::encoded().len()
    );
    let mut verdicts = Vec::new();
    for row in rows::all() {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == row.key) {
            verdicts.extend(row.run(rounds, scale));
        }
    }
    println!("\nbudgets");
    for verdict in verdicts {
        println!("  {verdict}");
    }
}

/// Runs one contestant once.
fn profile(row: &str, contestant: &str, messages: u64) {
    let readings = rows::all().into_iter().filter(|one| one.key == row).find_map(|one| one.run_one(contestant, messages));
    match readings {
        Some(reading) => println!("{row}, {contestant}: {:.0} ns wall, {:.0} ns CPU", reading.wall_ns, reading.cpu_ns),
        None => println!("no row {row} with a contestant {contestant}"),
    }
}
