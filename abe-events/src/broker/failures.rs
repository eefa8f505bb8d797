//! Failures as text, for stores that keep them beside a message, and back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Failure, FailureKind};

/// Failures as text: a JSON list of kind, text, attempt and time.
pub(super) fn failures_text(failures: &[Failure]) -> String {
    let list: Vec<(&str, &str, u32, u64)> = failures
        .iter()
        .map(|failure| {
            let at = failure.at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            (failure.kind.as_str(), failure.text.as_str(), failure.attempt, at)
        })
        .collect();
    serde_json::to_string(&list).unwrap_or_default()
}

/// The failures of such a text; none of one that cannot be read, as a message matters more than its story.
pub(super) fn failures_of(text: &str) -> Arc<Vec<Failure>> {
    let list: Vec<(String, String, u32, u64)> = serde_json::from_str(text).unwrap_or_default();
    let failure = |(kind, text, attempt, at): (String, String, u32, u64)| Failure {
        kind: kind_of(&kind),
        text,
        attempt,
        at: UNIX_EPOCH.checked_add(Duration::from_millis(at)).unwrap_or(SystemTime::UNIX_EPOCH),
    };
    Arc::new(list.into_iter().map(failure).collect())
}

fn kind_of(word: &str) -> FailureKind {
    use FailureKind as K;
    let known = [
        K::Error,
        K::Panic,
        K::Timeout,
        K::Permanent,
        K::Rejected,
        K::Undecodable,
        K::Version,
        K::Oversized,
        K::HopLimit,
        K::Publish,
        K::Crash,
    ];
    known.into_iter().find(|kind| kind.as_str() == word).unwrap_or(K::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_comes_back() {
        let kinds = ["error", "panic", "timeout", "permanent", "rejected", "undecodable", "version", "oversized", "hop-limit", "publish"];
        for word in kinds.into_iter().chain(["crash"]) {
            assert_eq!(kind_of(word).as_str(), word);
        }
        let mut failure = Failure::new(FailureKind::Panic, 2, "\"quoted\" 🦀");
        failure.at = UNIX_EPOCH + Duration::from_millis(1_795_354_800_123);
        assert_eq!(*failures_of(&failures_text(std::slice::from_ref(&failure))), [failure]);
        assert!(failures_of("nonsense").is_empty());
    }
}
