//! Counting what is settled: a number moves with the broker's step, not with the attempt, and back if the step failed.

use crate::message::Id;
use crate::runtime::monitor::LaneStats;

/// What a settlement amounts to in the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Succeeded,
    Filtered,
    Duplicate,
    Dead,
    /// Given up and thrown away.
    Discarded,
    /// Comes again: nothing has ended.
    Again,
}

/// What is on its way to the broker.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [u64; 5],
    /// Kept only where a lease can be lost, so that what was lost is not counted.
    by_id: Vec<(Id, Kind)>,
}

impl Tally {
    pub(super) fn note(&mut self, kind: Kind, leased: Option<&Id>) {
        if kind != Kind::Again {
            self.counts[kind as usize] += 1;
        }
        if let Some(id) = leased {
            self.by_id.push((id.clone(), kind));
        }
    }

    /// Counts what is handed to the broker: before it is, so that whoever sees nothing pending sees it counted.
    pub(super) fn hand_over(&mut self, stats: &LaneStats) {
        let [succeeded, filtered, duplicates, dead, discarded] = std::mem::take(&mut self.counts);
        stats.succeeded.add(succeeded);
        stats.filtered.add(filtered);
        stats.duplicates.add(duplicates);
        stats.dead.add(dead + discarded);
        stats.discarded.add(discarded);
    }

    /// Takes back a settlement whose lease was lost.
    pub(super) fn lost(&mut self, id: &Id, stats: &LaneStats) {
        if let Some(at) = self.by_id.iter().position(|(known, _)| known == id) {
            let (_, kind) = self.by_id.swap_remove(at);
            take_back(kind, stats);
        }
    }
}

/// Takes back a settlement that was handed over and not carried out.
pub(super) fn take_back(kind: Kind, stats: &LaneStats) {
    match kind {
        Kind::Succeeded => stats.succeeded.take_back(1),
        Kind::Filtered => stats.filtered.take_back(1),
        Kind::Duplicate => stats.duplicates.take_back(1),
        Kind::Dead => stats.dead.take_back(1),
        Kind::Discarded => {
            stats.dead.take_back(1);
            stats.discarded.take_back(1);
        }
        Kind::Again => {}
    }
}
