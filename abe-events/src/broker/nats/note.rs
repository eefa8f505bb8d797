//! What JetStream does not keep of a message that did not end with its first delivery: what was no attempt, and why attempts failed.
//!
//! JetStream counts deliveries. A delivery that nobody got to see is one of them and no attempt, so a note tells how many
//! attempts there were when so many deliveries had been made. Most messages end with their first delivery and have no note.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::names::{Names, Place};
use super::server::Server;

/// A note beside a message, for one subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// How often the server had handed it out.
    pub(super) deliveries: u64,
    /// How many of these were attempts.
    pub(super) attempts: u32,
    /// Not before this, in milliseconds of the server's clock.
    #[serde(default)]
    pub(super) due_ms: u64,
    /// Why attempts failed, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) failures: String,
}

impl Note {
    /// Which attempt a delivery is.
    pub(super) fn attempt(note: Option<&Self>, deliveries: u64) -> u32 {
        let (before, known) = note.map_or((0, 0), |note| (note.attempts, note.deliveries));
        // A server that crashed may have forgotten deliveries, but this is one more than those it made.
        let since = deliveries.saturating_sub(known).max(1);
        before.saturating_add(u32::try_from(since).unwrap_or(u32::MAX))
    }
}

/// The note of a message, and where it stands.
pub(super) async fn find(server: &Server, names: &Names, place: &Place, sequence: u64) -> Result<Option<(Note, u64)>, Fault> {
    let Some(found) = server.last(&names.state, names.note(place, sequence)).await? else { return Ok(None) };
    match serde_json::from_slice(&found.payload) {
        Ok(note) => Ok(Some((note, found.sequence))),
        Err(_) => {
            tracing::error!(subscription = %place.name, sequence, "a note beside a message cannot be read");
            Ok(None)
        }
    }
}

/// Writes the note of a message.
pub(super) async fn write(server: &Server, names: &Names, place: &Place, sequence: u64, note: &Note) -> Result<u64, Fault> {
    let payload = serde_json::to_vec(note).map(Bytes::from).map_err(|_| Fault::Unsent("a note cannot be written"))?;
    server.store(names.note(place, sequence), None, payload).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_that_were_no_attempts_are_not_counted() {
        let note = |deliveries, attempts| Note { deliveries, attempts, ..Note::default() };
        assert_eq!(Note::attempt(None, 1), 1);
        assert_eq!(Note::attempt(None, 3), 3, "two ended without a word");
        assert_eq!(Note::attempt(Some(&note(1, 0)), 2), 1, "a release");
        assert_eq!(Note::attempt(Some(&note(4, 0)), 5), 1, "four releases");
        assert_eq!(Note::attempt(Some(&note(5, 1)), 6), 2, "a failure");
        assert_eq!(Note::attempt(Some(&note(5, 1)), 8), 4, "and two without a word");
        assert_eq!(Note::attempt(Some(&note(5, 2)), 3), 3, "the server forgot");
    }
}
