//! Dead letters: each the entry as it was, in a stream of their own, with what is told of it in the same entry.

use std::time::{Duration, UNIX_EPOCH};

use super::super::failures::failures_of;
use super::super::{DeadLetter, DeadLetterFilter};
use super::error::Fault;
use super::read::Entry;
use super::server::{Arg, Script};
use super::{Shared, reply};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::Name;

/// How many letters are read at once.
const PAGE: u64 = 32;

impl Shared {
    pub(super) async fn letter_count(&self) -> Result<u64, Fault> {
        let count = self.server.ask(::redis::cmd("XLEN").arg(self.names.dead())).await?;
        Ok(reply::number(Some(&count)).max(0).cast_unsigned())
    }

    /// Those meant, oldest first, with their entries.
    async fn letters(&self, filter: &DeadLetterFilter) -> Result<Vec<(String, DeadLetter)>> {
        let (mut found, mut from) = (Vec::new(), "-".to_owned());
        loop {
            let mut command = ::redis::cmd("XRANGE");
            command.arg(self.names.dead()).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let page = self.server.ask(&command).await.map_err(|fault| fault.failed())?;
            let page = reply::list(Some(&page));
            for one in page {
                let [id, fields] = reply::list(Some(one)) else { continue };
                let entry = Entry::new(id, fields);
                from = format!("({}", entry.id);
                match read(&entry) {
                    Ok(letter) if filter.matches(&letter) => found.push((entry.id, letter)),
                    Ok(_) => {}
                    Err(error) => tracing::error!(%error, "a stored dead letter cannot be read"),
                }
                if filter.limit > 0 && found.len() == filter.limit {
                    return Ok(found);
                }
            }
            if (page.len() as u64) < PAGE {
                return Ok(found);
            }
        }
    }

    pub(super) async fn list_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>> {
        Ok(self.letters(filter).await?.into_iter().map(|(_, letter)| letter).collect())
    }

    /// Takes those meant away, or hands them back to their subscriptions: each in one step.
    pub(super) async fn clear_letters(&self, filter: &DeadLetterFilter, how: &'static str) -> Result<u64> {
        let (letters, mut count) = (self.letters(filter).await?, 0);
        for page in letters.chunks(100) {
            let mut arguments = vec![Arg::Text(&self.names.prefix), Arg::Text(how)];
            arguments.extend(page.iter().map(|(entry, _)| Arg::Text(entry)));
            let answer = self.run(Script::Letters, &arguments).await.map_err(|fault| fault.failed())?;
            count += reply::number(answer.first()).max(0).cast_unsigned();
            let nowhere = answer.get(1).map(reply::text).unwrap_or_default();
            if !nowhere.is_empty() {
                let text = format!("redis: subscription {nowhere} is not there, and cannot get its dead letters back");
                return Err(Error::new(ErrorKind::Broker, text));
            }
        }
        // What came back is counted by the next who looks.
        self.lives.wake_all();
        Ok(count)
    }
}

fn read(entry: &Entry) -> Result<DeadLetter> {
    let told = |name: &str| entry.text(name).ok_or_else(|| Error::new(ErrorKind::Decode, format!("it has no field {name}")));
    let missing = || Error::new(ErrorKind::Decode, "its subscription has no name");
    let (group, name) = told("abe-subscription")?.split_once('/').ok_or_else(missing)?;
    let at = told("abe-at")?.parse().unwrap_or(0);
    Ok(DeadLetter {
        group: Name::new(group)?,
        subscription: Name::new(name)?,
        message: entry.message().or_else(|_| entry.as_bytes())?,
        attempts: told("abe-attempts")?.parse().unwrap_or(1),
        failures: failures_of(told("abe-failures")?),
        at: UNIX_EPOCH.checked_add(Duration::from_millis(at)).unwrap_or(UNIX_EPOCH),
    })
}
