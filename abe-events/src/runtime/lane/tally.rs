//! Counting what was settled, when it was settled: a number moves with the broker's step, not with the attempt.

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

    /// Leaves out a settlement that was not carried out.
    pub(super) fn leave_out(&mut self, kind: Kind) {
        if kind != Kind::Again {
            self.counts[kind as usize] = self.counts[kind as usize].saturating_sub(1);
        }
    }

    /// Leaves out a settlement whose lease was lost.
    pub(super) fn lost(&mut self, id: &Id) {
        if let Some(at) = self.by_id.iter().position(|(known, _)| known == id) {
            let (_, kind) = self.by_id.swap_remove(at);
            self.leave_out(kind);
        }
    }

    /// Counts what was carried out.
    pub(super) fn settle(&mut self, stats: &LaneStats) {
        let [succeeded, filtered, duplicates, dead, discarded] = std::mem::take(&mut self.counts);
        self.by_id.clear();
        stats.succeeded.add(succeeded);
        stats.filtered.add(filtered);
        stats.duplicates.add(duplicates);
        stats.dead.add(dead + discarded);
        stats.discarded.add(discarded);
    }
}
