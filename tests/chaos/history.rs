//! Who did what: lines that a process appends with one `write` each, so that they outlive its `SIGKILL`.
//!
//! A publisher writes `i first count time`, then `o`, `f` or `u` (stored, not stored, unknown) with the same range. A worker
//! writes `s subscription from number attempt time` when a handler starts, and `k`, `e` or `d` (done, failed, failed for
//! good) with the same when it ends; `x` when what it was handed is not what was published. Nothing is synced: a kill of a
//! process takes nothing from the page cache.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use crate::story::Mark;
use crate::support::{Result, now};

/// A process's own file.
#[derive(Debug)]
pub(crate) struct History(File);

/// What a handler says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Start,
    Done,
    Failed,
    Dead,
    Damaged,
}

impl Said {
    fn letter(self) -> char {
        match self {
            Self::Start => 's',
            Self::Done => 'k',
            Self::Failed => 'e',
            Self::Dead => 'd',
            Self::Damaged => 'x',
        }
    }
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Nobody tried.
    Never,
    Invoked,
    Yes,
    No,
    Unknown,
}

/// A line, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Publish { stored: Stored, first: u32, count: u32, at: u64 },
    Run { said: Said, subscription: usize, mark: Mark, attempt: u32, at: u64 },
}

/// Lines that are written with one call.
#[derive(Debug, Default)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn add(&mut self, said: Said, subscription: usize, mark: Mark, attempt: u32) {
        let _ = writeln!(self.0, "{} {subscription} {} {} {attempt} {}", said.letter(), mark.from, mark.number, now());
    }
}

impl History {
    pub(crate) fn new(folder: &Path, kind: &str, process: u32) -> Result<Self> {
        Ok(Self(File::options().create_new(true).append(true).open(folder.join(format!("{kind}-{process}.log")))?))
    }

    pub(crate) fn publish(&self, stored: Stored, first: u32, count: u32) -> Result {
        let letter = match stored {
            Stored::Never | Stored::Invoked => 'i',
            Stored::Yes => 'o',
            Stored::No => 'f',
            Stored::Unknown => 'u',
        };
        Ok((&self.0).write_all(format!("{letter} {first} {count} {}\n", now()).as_bytes())?)
    }

    pub(crate) fn run(&self, said: Said, subscription: usize, mark: Mark, attempt: u32) -> std::io::Result<()> {
        let mut lines = Lines::default();
        lines.add(said, subscription, mark, attempt);
        self.write(&lines)
    }

    pub(crate) fn write(&self, lines: &Lines) -> std::io::Result<()> {
        (&self.0).write_all(lines.0.as_bytes())
    }
}

/// Reads a file line by line; a last line without an end was cut off by a kill and says nothing.
pub(crate) fn read(path: &Path, mut each: impl FnMut(Line)) -> Result {
    let file = match File::open(path) {
        Ok(file) => file,
        // Killed before it wrote anything.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::with_capacity(128);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        let text = std::str::from_utf8(&line)?;
        each(parse(text).ok_or_else(|| format!("{}: cannot read `{text}`", path.display()))?);
    }
}

pub(crate) fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let letter = words.next()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let stored = match letter {
        "i" => Some(Stored::Invoked),
        "o" => Some(Stored::Yes),
        "f" => Some(Stored::No),
        "u" => Some(Stored::Unknown),
        _ => None,
    };
    if let Some(stored) = stored {
        let (first, count) = (u32::try_from(number()?).ok()?, u32::try_from(number()?).ok()?);
        return Some(Line::Publish { stored, first, count, at: number()? });
    }
    let said = match letter {
        "s" => Said::Start,
        "k" => Said::Done,
        "e" => Said::Failed,
        "d" => Said::Dead,
        "x" => Said::Damaged,
        _ => return None,
    };
    let subscription = usize::try_from(number()?).ok().filter(|number| *number < crate::story::SUBSCRIPTIONS.len())?;
    let mark = Mark { from: u32::try_from(number()?).ok()?, number: u32::try_from(number()?).ok()? };
    Some(Line::Run { said, subscription, mark, attempt: u32::try_from(number()?).ok()?, at: number()? })
}
