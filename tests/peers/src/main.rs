//! abe-events beside its peers: the same payload, the same count, interleaved rounds, one run.
//!
//! ```text
//! cargo run --release                both rows
//! cargo run --release -- short       fewer rounds, fewer messages
//! ```

mod event;
#[path = "../../../examples/bench/harness.rs"]
#[allow(dead_code, reason = "shared with the benchmark, which uses more of it")]
mod harness;
#[path = "../../../examples/bench/machine.rs"]
mod machine;
mod ours;
mod peers;
mod rows;
#[path = "../../../examples/bench/work.rs"]
#[allow(dead_code, reason = "shared with the benchmark, which uses more of it")]
mod work;

fn main() {
    let short = std::env::args().any(|argument| argument == "short");
    let (rounds, scale) = if short { (3, 4) } else { (11, 1) };
    println!("{}", machine::describe());
    println!("ratios are medians of per-round ratios to the first line");
    let verdicts: Vec<String> = rows::all().iter().flat_map(|row| row.run(rounds, scale)).collect();
    println!("\nbudgets");
    for verdict in verdicts {
        println!("  {verdict}");
    }
}
