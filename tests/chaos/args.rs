//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::Result;

/// All of it, with the defaults of the short form.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    /// What is to be done.
    pub(crate) command: String,
    pub(crate) events: u64,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    /// How many workers run at once.
    pub(crate) workers: usize,
    /// Of how many points one is tried; the seed says which.
    pub(crate) every: usize,
    /// The first of them, so that a long run can be done in pieces.
    pub(crate) first: usize,
    /// When faults end, finished or not.
    pub(crate) limit: Duration,
    /// Within what time everything has to be handled once faults have ended.
    pub(crate) healing: Duration,
    /// Which faults there are: all, or those of one kind.
    pub(crate) only: Option<String>,
    /// Where a Markdown row goes.
    pub(crate) table: Option<PathBuf>,
    /// For children only.
    pub(crate) role: Option<String>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) url: Option<String>,
    pub(crate) process: u32,
    pub(crate) lease: Option<Duration>,
    pub(crate) ledger: Option<String>,
    /// Whether what a run leaves behind is kept.
    pub(crate) keep: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            command: "smoke".into(),
            events: 40_000,
            kills: 25,
            seed: fastrand::u64(..),
            workers: 4,
            every: 1,
            first: 0,
            limit: Duration::from_secs(540),
            healing: Duration::from_secs(60),
            only: None,
            table: None,
            role: None,
            folder: None,
            url: None,
            process: 0,
            lease: None,
            ledger: None,
            keep: false,
        }
    }
}

impl Args {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut args, mut words) = (Self::default(), words);
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                args.command = word;
                continue;
            };
            if name == "keep" {
                args.keep = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("--{name} needs a value"))?;
            match name {
                "events" => args.events = value.parse()?,
                "kills" => args.kills = value.parse()?,
                "seed" => args.seed = value.parse()?,
                "workers" => args.workers = value.parse()?,
                "every" => args.every = value.parse::<usize>()?.max(1),
                "first" => args.first = value.parse()?,
                "limit" => args.limit = Duration::from_secs(value.parse()?),
                "healing" => args.healing = Duration::from_secs(value.parse()?),
                "only" => args.only = Some(value),
                "table" => args.table = Some(value.into()),
                "role" => args.role = Some(value),
                "folder" => args.folder = Some(value.into()),
                "url" => args.url = Some(value),
                "process" => args.process = value.parse()?,
                "ledger" => args.ledger = Some(value),
                "lease-ms" => args.lease = Some(Duration::from_millis(value.parse()?)),
                _ => return Err(format!("--{name} is no option of this").into()),
            }
        }
        Ok(args)
    }
}
