//! What is told at the end: a row of a Markdown table, and everything that is wrong.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::checker::Findings;
use crate::support::{Result, say};

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) worker_kills: u64,
    pub(crate) publisher_kills: u64,
    pub(crate) zombies: u64,
    pub(crate) restarts: u64,
    pub(crate) locks: u64,
    pub(crate) server_kills: u64,
    pub(crate) of_network: u64,
}

/// A run's result.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) faults: Faults,
    pub(crate) findings: Findings,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) extra: String,
}

const HEAD: &str = "| run | events | runs | worker kills | publisher kills | zombies | restarts | other faults | lost | phantom | inversions | duplicates (bound) | effects, twice | dead letters | longest recovery | time | seed | commit |\n\
                    |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl Row {
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_clean()
    }

    /// Takes another one of the same kind in.
    pub(crate) fn add(&mut self, other: Self) {
        let (faults, more) = (&mut self.faults, other.faults);
        faults.worker_kills += more.worker_kills;
        faults.publisher_kills += more.publisher_kills;
        faults.zombies += more.zombies;
        faults.restarts += more.restarts;
        faults.locks += more.locks;
        faults.server_kills += more.server_kills;
        faults.of_network += more.of_network;
        self.findings.add(other.findings);
    }

    fn markdown(&self) -> String {
        let (faults, findings) = (&self.faults, &self.findings);
        let counted = [(faults.server_kills, "server kills"), (faults.of_network, "network faults"), (faults.locks, "locks")];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let other = counted.chain([self.extra.clone()]).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} ({}) | {}, {} | {} | {:.1} s | {:.0} s | {} | {} |",
            self.name,
            findings.stored,
            findings.runs,
            faults.worker_kills,
            faults.publisher_kills,
            faults.zombies,
            faults.restarts,
            other,
            findings.count("lost"),
            findings.count("phantom"),
            findings.count("inversion"),
            findings.duplicates,
            findings.duplicates_max,
            findings.effects,
            findings.effects_twice,
            findings.letters,
            Duration::from_millis(findings.recovery_ms).as_secs_f64(),
            self.duration.as_secs_f64(),
            self.seed,
            commit(),
        )
    }
}

/// Tells all, and whether everything held.
pub(crate) fn tell(rows: &[Row], table: Option<&Path>) -> Result<bool> {
    say(format!("\n{HEAD}"));
    for row in rows {
        say(row.markdown());
        if let Some(path) = table {
            let mut file = std::fs::File::options().create(true).append(true).open(path)?;
            if file.metadata()?.len() == 0 {
                writeln!(file, "{HEAD}")?;
            }
            writeln!(file, "{}", row.markdown())?;
        }
    }
    say("");
    for row in rows {
        let findings = &row.findings;
        say(format!(
            "{}: {} events of unknown outcome, {} pairs in order, {} delays kept, {} given up after silent ends",
            row.name, findings.unknown, findings.pairs, findings.delays, findings.given_up
        ));
        for line in findings.lines() {
            say(format!("RED {}: {line}", row.name));
        }
    }
    Ok(rows.iter().all(Row::is_clean))
}

/// The commit under test, as far as git knows.
fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    asked
        .ok()
        .filter(|asked| asked.status.success())
        .map_or_else(|| "?".into(), |asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}
