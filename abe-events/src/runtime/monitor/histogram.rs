//! A histogram of times with buckets no wider than an eighth of their value.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Eight buckets for each power of two of nanoseconds, up to 2^40 ns (18 minutes).
const SUB_BITS: u32 = 3;
const BUCKETS: usize = (40 << SUB_BITS) as usize;

/// Counts by time. One writer; readers see a state that is at most a few writes old.
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64; BUCKETS]>,
    sum_ns: AtomicU64,
}

/// Several histograms added up.
#[derive(Debug, Clone)]
pub(crate) struct Distribution {
    buckets: Vec<u64>,
    count: u64,
    sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([const { AtomicU64::new(0) }; BUCKETS]), sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = &self.buckets[bucket_of(ns)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.sum_ns.store(self.sum_ns.load(Ordering::Relaxed).saturating_add(ns), Ordering::Relaxed);
    }
}

impl Distribution {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, sum_ns: 0 }
    }

    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(histogram.buckets.iter()) {
            let count = bucket.load(Ordering::Relaxed);
            *sum += count;
            self.count += count;
        }
        self.sum_ns = self.sum_ns.saturating_add(histogram.sum_ns.load(Ordering::Relaxed));
    }

    pub(crate) fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.checked_div(self.count).unwrap_or(0))
    }

    /// The upper end of the bucket in which the given share of all times lies; 0 when nothing was recorded.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank, clamped below")]
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_end(index));
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(ns: u64) -> usize {
    // Below 2^SUB_BITS every nanosecond has its own bucket; above, the leading bit and the SUB_BITS after it choose.
    let exponent = 63 - ns.max(1).leading_zeros();
    if exponent < SUB_BITS {
        return usize::try_from(ns).unwrap_or(0);
    }
    let sub = ns >> (exponent - SUB_BITS) & ((1 << SUB_BITS) - 1);
    let index = u64::from((exponent - SUB_BITS + 1) << SUB_BITS) + sub;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

fn upper_end(index: usize) -> u64 {
    let index = index as u64;
    let (row, sub) = (index >> SUB_BITS, index & ((1 << SUB_BITS) - 1));
    if row == 0 { sub } else { (((1 << SUB_BITS) + sub + 1) << (row - 1)) - 1 }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Histogram(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket_and_no_bucket_is_wider_than_an_eighth() {
        for ns in (0..1 << 16).chain((16..40).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + (1 << (bit - 2))])) {
            let bucket = bucket_of(ns);
            if bucket == BUCKETS - 1 {
                continue;
            }
            assert!(ns <= upper_end(bucket), "{ns}");
            assert!(bucket == 0 || ns > upper_end(bucket - 1), "{ns}");
            assert!(upper_end(bucket) - ns <= ns / 8, "{ns}");
        }
    }

    #[test]
    fn percentiles_and_mean_of_known_times() {
        let histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let mut all = Distribution::new();
        all.add(&histogram);
        assert!((all.percentile(0.5).as_secs_f64() / 500e-6 - 1.0).abs() < 0.13);
        assert!((all.percentile(0.99).as_secs_f64() / 990e-6 - 1.0).abs() < 0.13);
        assert_eq!(all.mean(), Duration::from_nanos(500_500));
        assert_eq!(Distribution::new().percentile(0.99), Duration::ZERO);
    }
}
