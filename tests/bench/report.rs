//! What the durable benchmarks print: rates of interleaved rounds, and what is promised of their ratios.

use std::fmt::Display;
use std::io::Write;

#[path = "../../examples/bench/machine.rs"]
mod machine;

/// A run's output, and how much of the machine others used meanwhile.
pub(crate) struct Report {
    load: machine::Load,
    budgets: Vec<String>,
}

impl Report {
    pub(crate) fn new(title: &str) -> Self {
        say(format_args!("\n{title} · {}", machine::describe()));
        Self { load: machine::Load::now(), budgets: Vec::new() }
    }

    /// Median, and worst to best, of a figure of each round.
    pub(crate) fn rate(&self, name: &str, unit: &str, values: &[f64]) {
        let sorted = sorted(values);
        say(format_args!("  {name:<52} {:>10.0} {unit}   ({:.0} .. {:.0})", middle(&sorted), sorted[0], sorted[sorted.len() - 1]));
    }

    /// A promise of at least so much, of the ratios within rounds.
    pub(crate) fn at_least(&mut self, id: &str, what: &str, ratios: &[f64], budget: f64) {
        self.judge(id, what, ratios, "at least", budget, |median| median >= budget);
    }

    /// A promise of at most so much.
    pub(crate) fn at_most(&mut self, id: &str, what: &str, ratios: &[f64], budget: f64) {
        self.judge(id, what, ratios, "at most", budget, |median| median <= budget);
    }

    /// A ratio that nothing is promised of.
    pub(crate) fn compare(&mut self, id: &str, what: &str, ratios: &[f64]) {
        let sorted = sorted(ratios);
        self.budgets.push(format!("{id:<4} {what}: {:.2} ({:.2} .. {:.2})", middle(&sorted), sorted[0], sorted[sorted.len() - 1]));
    }

    fn judge(&mut self, id: &str, what: &str, ratios: &[f64], word: &str, budget: f64, holds: impl Fn(f64) -> bool) {
        let sorted = sorted(ratios);
        let (last, median) = (sorted.len() - 1, middle(&sorted));
        let verdict = match (holds(median), holds(sorted[last / 4]) == holds(sorted[last - last / 4])) {
            (true, true) => "holds",
            (true, false) => "holds, within the spread",
            (false, true) => "MISSED",
            (false, false) => "MISSED, within the spread",
        };
        let line = format!("{id:<4} {what}: {median:.2} ({:.2} .. {:.2}), {word} {budget}: {verdict}", sorted[0], sorted[last]);
        self.budgets.push(line);
    }

    /// The promises, and who else was on the machine; children of this process count as others.
    pub(crate) fn end(self) {
        say(format_args!("  others, with a server's processes: {:.0} %", self.load.others()));
        self.budgets.iter().for_each(|line| say(format_args!("{line}")));
    }
}

/// Figures of two contestants, round by round.
pub(crate) fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
