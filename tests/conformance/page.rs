//! docs/backends.md: what each broker declares, and how each case ended on it, as the suite found it.
//!
//! `ABE_BLESS=1` writes it anew. The column of a broker that cannot run here, because its feature is off or no server is
//! installed, is taken from the page as it stands; a line that is missing in it is noticed.

use std::path::Path;

use abe_events::broker::{Capabilities, StartPosition};
use abe_events::conformance::{Outcome, Report};

use crate::memory;

/// What stands in a cell that nobody has found out yet.
const UNKNOWN: &str = "?";

const OPENING: &str = "\
# What each broker gives

The conformance suite writes this page: `ABE_BLESS=1 cargo test -p abe-events --features postgres,nats,redis --test conformance page`.
A test fails when it is out of date. How a broker of your own gets such a column: [writing your own backend](guide/own-backend.md).

## Capabilities

What a broker declares. A policy that needs more than its broker has is an error at start.

";

const CASES: &str = "
## Cases

How each case of the suite ended: *pass*, or *n/a* with the capability that the broker does not have. 1–16 are the field's
standard, A what was missing there, S the rest of the contract in [`Broker`](../abe-events/src/broker/mod.rs).

";

/// What the page says of one broker, line by line.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    name: String,
    capabilities: Vec<(String, String)>,
    cases: Vec<(String, String)>,
}

impl Column {
    fn of(report: &Report) -> Self {
        let declared = report.capabilities().expect("a broker that was opened");
        let cell = |outcome: &Outcome| match outcome {
            Outcome::Fail(_) => "**fail**".to_owned(),
            well => well.to_string(),
        };
        Self {
            name: declared.name.to_owned(),
            capabilities: lines_of(declared),
            cases: report.rows().iter().map(|row| (format!("{} | {}", row.id, row.name), cell(&row.outcome))).collect(),
        }
    }

    /// What the page says of a broker, or that nothing is known, in the lines of another.
    fn standing(name: &str, page: &str, like: &Self) -> Self {
        let take = |lines: &[(String, String)]| {
            let known = |label: &str| cell(page, label, name).unwrap_or_else(|| UNKNOWN.to_owned());
            lines.iter().map(|(label, _)| (label.clone(), known(label))).collect()
        };
        Self { name: name.to_owned(), capabilities: take(&like.capabilities), cases: take(&like.cases) }
    }
}

fn lines_of(declared: &Capabilities) -> Vec<(String, String)> {
    let yes = |has: bool| if has { "yes" } else { "no" }.to_owned();
    let start = |start: &StartPosition| format!("{start:?}").to_lowercase();
    let lines = [
        ("what is stored survives", survives(declared)),
        ("wildcards matched by the broker", yes(declared.wildcards)),
        ("order per key over retries", yes(declared.ordered)),
        ("a publish of several is all or nothing", yes(declared.atomic_publish)),
        ("late settlements refused by the broker", yes(declared.fencing)),
        ("works without leases", yes(declared.leases_optional)),
        ("delays survive a restart", yes(declared.durable_delays)),
        ("a new subscription may start at", declared.start.iter().map(start).collect::<Vec<_>>().join(", ")),
        ("consumers compete", yes(declared.competing_consumers)),
        ("queues are bounded", yes(declared.bounded_queues)),
        ("largest payload", size(declared.payload_bytes_max)),
    ];
    lines.map(|(label, cell)| (label.to_owned(), cell)).into()
}

fn survives(declared: &Capabilities) -> String {
    use abe_events::broker::Durability as D;
    match declared.durability {
        D::Process => "nothing beyond the process",
        D::Restart => "the end of the process",
        D::ServerCrash => "the end of the server's process",
        D::PowerLoss => "a power failure",
        other => panic!("{other:?} needs words"),
    }
    .to_owned()
}

fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1024 * 1024) { format!("{} MiB", bytes / (1024 * 1024)) } else { format!("{bytes} bytes") }
}

/// What stands in a table of the page, in the line of this label and the column of this name.
fn cell(page: &str, label: &str, name: &str) -> Option<String> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut at = None;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells = cells(line);
        if let Some(found) = cells.iter().position(|cell| cell == name) {
            at = Some(found);
        } else if line.starts_with(&format!("| {label} |")) {
            return cells.get(at?).cloned();
        }
    }
    None
}

fn page_of(columns: &[Column]) -> String {
    let table = |head: &str, lines: fn(&Column) -> &Vec<(String, String)>| {
        let names: String = columns.iter().map(|column| format!(" {} |", column.name)).collect();
        let mut text = format!("| {head} |{names}\n|{}\n", "---|".repeat(head.split('|').count() + columns.len()));
        for (at, (label, _)) in lines(&columns[0]).iter().enumerate() {
            let cells: String = columns.iter().map(|column| format!(" {} |", lines(column)[at].1)).collect();
            text.push_str(&format!("| {label} |{cells}\n"));
        }
        text
    };
    format!("{OPENING}{}{CASES}{}", table("", |column| &column.capabilities), table("# | case", |column| &column.cases))
}

/// The page as it should be, by what could be run here.
fn found(standing: &str) -> String {
    let memory = Column::of(&memory::report());
    let sqlite = sqlite().unwrap_or_else(|| Column::standing("sqlite", standing, &memory));
    let postgres = postgres().unwrap_or_else(|| Column::standing("postgres", standing, &memory));
    let nats = nats().unwrap_or_else(|| Column::standing("nats", standing, &memory));
    let redis = redis().unwrap_or_else(|| Column::standing("redis", standing, &memory));
    page_of(&[memory, sqlite, postgres, nats, redis])
}

#[cfg(feature = "sqlite")]
fn sqlite() -> Option<Column> {
    Some(Column::of(crate::sqlite::report()))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite() -> Option<Column> {
    None
}

#[cfg(feature = "postgres")]
fn postgres() -> Option<Column> {
    crate::postgres::report().map(Column::of)
}

#[cfg(not(feature = "postgres"))]
fn postgres() -> Option<Column> {
    None
}

#[cfg(feature = "nats")]
fn nats() -> Option<Column> {
    crate::nats::report().map(Column::of)
}

#[cfg(not(feature = "nats"))]
fn nats() -> Option<Column> {
    None
}

#[cfg(feature = "redis")]
fn redis() -> Option<Column> {
    crate::redis::report().map(Column::of)
}

#[cfg(not(feature = "redis"))]
fn redis() -> Option<Column> {
    None
}

#[test]
fn is_what_the_suite_found() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/backends.md");
    let standing = std::fs::read_to_string(&path).unwrap_or_default();
    let found = found(&standing);
    if std::env::var_os("ABE_BLESS").is_some() {
        std::fs::write(&path, &found).expect("the page can be written");
    }
    assert!(!found.contains(&format!("| {UNKNOWN} |")), "a broker that cannot run here has lines to fill in:\n{found}");
    let standing = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(standing == found, "docs/backends.md is out of date; write it with ABE_BLESS=1, and look at git diff:\n{found}");
}

#[test]
fn a_column_that_cannot_run_is_kept_and_a_missing_line_is_noticed() {
    let line = |label: &str, cell: &str| (label.to_owned(), cell.to_owned());
    let here = Column {
        name: "here".into(),
        capabilities: vec![line("consumers compete", "yes")],
        cases: vec![line("1 | one", "pass"), line("A1 | two", "pass")],
    };
    let there = Column {
        name: "there".into(),
        capabilities: vec![line("consumers compete", "no")],
        cases: vec![line("1 | one", "n/a (fencing)"), line("A1 | two", "pass")],
    };
    let page = page_of(&[here.clone(), there.clone()]);
    assert_eq!(Column::standing("there", &page, &here), there);
    let mut grown = here.clone();
    grown.cases.push(line("A2 | three", "pass"));
    assert_eq!(Column::standing("there", &page, &grown).cases[2].1, UNKNOWN);
    assert_eq!(Column::standing("elsewhere", &page, &here).cases[0].1, UNKNOWN);
}
