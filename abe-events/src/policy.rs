//! How a subscription behaves, as data: retries, timeout, concurrency, batches, order, idempotency.
//!
//! The attribute gives some of it, `config.yaml` and the environment may give more; [`Policy::resolve`] lays one over the other.

use std::time::Duration;

/// What happens between a failed attempt and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included; from 1. Default 5.
    pub attempts: u32,
    /// How the delay grows. Default exponential.
    pub backoff: Backoff,
    /// The delay before the second attempt. Default 100 ms.
    pub min: Duration,
    /// The longest delay. Default 30 s.
    pub max: Duration,
    /// Whether a delay is drawn from `min` to its full length, so that failures do not come back in step. Default yes.
    pub jitter: bool,
}

/// How the delay before an attempt grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Always `min`.
    Fixed,
    /// `min`, twice that, four times that, up to `max`.
    Exponential,
}

impl Retry {
    /// The defaults: 5 attempts, exponential from 100 ms to 30 s with full jitter.
    pub const DEFAULT: Self =
        Self { attempts: 5, backoff: Backoff::Exponential, min: Duration::from_millis(100), max: Duration::from_secs(30), jitter: true };

    /// The delay after the failure of an attempt (from 1), drawn with `chance` in `0.0..1.0`.
    ///
    /// With jitter it lies between `min` and the attempt's full delay, so a failing event never comes back faster than `min`.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let full = match self.backoff {
            Backoff::Fixed => self.min,
            Backoff::Exponential => self.min.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX)).min(self.max),
        };
        if self.jitter && full > self.min { self.min + (full - self.min).mul_f64(chance.clamp(0.0, 1.0)) } else { full }
    }
}

/// What a full queue does to a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// `publish` waits for room. The default: nothing is lost, and the publisher feels the pressure.
    #[default]
    Wait,
    /// `publish` fails with [`ErrorKind::Full`](crate::ErrorKind::Full) and nothing is stored anywhere.
    Fail,
    /// This subscription does not get the message; it is counted as shed.
    Shed,
}

/// Everything a subscription's behaviour depends on, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Retries. Default [`Retry::DEFAULT`].
    pub retry: Retry,
    /// How long an attempt may take; `None` for as long as it likes. Default 30 s.
    pub timeout: Option<Duration>,
    /// How many attempts run at once. Default 1, at most 65,536.
    pub concurrency: u32,
    /// How many messages a batch holds at most. Default 1, at most 100,000.
    pub batch: u32,
    /// How old a batch's first message may get before the batch runs. Default 1 s.
    pub max_wait: Duration,
    /// How many bytes a batch may hold, its last message included or not at all if it is the only one. Default 16 MiB.
    pub batch_bytes: usize,
    /// Whether messages of one key are handled one after another, retries included. Default no.
    pub ordered: bool,
    /// How long a handled message is remembered, if its duplicates are to be skipped. Default: not at all.
    pub idempotent: Option<Duration>,
    /// How many messages wait or run at most (`output_buffer`). Default 64; at least twice `batch` × `concurrency`.
    pub buffer: u32,
    /// How many bytes wait or run at most. Default 64 MiB.
    pub buffer_bytes: usize,
    /// What a full queue does to a publisher. Default: it waits.
    pub when_full: WhenFull,
    /// Whether what failed for good is kept as a dead letter; otherwise it is logged, counted and gone. Default yes.
    pub dead_letter: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retry: Retry::DEFAULT,
            timeout: Some(Duration::from_secs(30)),
            concurrency: 1,
            batch: 1,
            max_wait: Duration::from_secs(1),
            batch_bytes: 16 * 1024 * 1024,
            ordered: false,
            idempotent: None,
            buffer: 64,
            buffer_bytes: 64 * 1024 * 1024,
            when_full: WhenFull::Wait,
            dead_letter: true,
        }
    }
}

/// How long a delivery may stay unsettled without renewal, unless the builder says otherwise.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// How long an `idempotent` handler remembers what it handled, unless it says otherwise.
pub const IDEMPOTENT_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of a policy that somebody gave: an attribute, `defaults:` or `handlers:` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PolicyPatch {
    /// See [`Retry::attempts`].
    pub attempts: Option<u32>,
    /// See [`Retry::backoff`].
    pub backoff: Option<Backoff>,
    /// See [`Retry::min`], in milliseconds.
    pub retry_min_ms: Option<u64>,
    /// See [`Retry::max`], in milliseconds.
    pub retry_max_ms: Option<u64>,
    /// See [`Retry::jitter`].
    pub jitter: Option<bool>,
    /// See [`Policy::timeout`], in milliseconds; 0 for none.
    pub timeout_ms: Option<u64>,
    /// See [`Policy::concurrency`].
    pub concurrency: Option<u32>,
    /// See [`Policy::batch`].
    pub batch: Option<u32>,
    /// See [`Policy::max_wait`], in milliseconds.
    pub max_wait_ms: Option<u64>,
    /// See [`Policy::batch_bytes`].
    pub batch_bytes: Option<u64>,
    /// See [`Policy::ordered`].
    pub ordered: Option<bool>,
    /// Whether duplicates are skipped; see [`Policy::idempotent`].
    pub idempotent: Option<bool>,
    /// See [`Policy::idempotent`], in milliseconds.
    pub window_ms: Option<u64>,
    /// See [`Policy::buffer`].
    pub buffer: Option<u32>,
    /// See [`Policy::buffer_bytes`].
    pub buffer_bytes: Option<u64>,
    /// See [`Policy::when_full`].
    pub when_full: Option<WhenFull>,
    /// See [`Policy::dead_letter`].
    pub dead_letter: Option<bool>,
}

impl PolicyPatch {
    /// Nothing given.
    pub const NONE: Self = Self {
        attempts: None,
        backoff: None,
        retry_min_ms: None,
        retry_max_ms: None,
        jitter: None,
        timeout_ms: None,
        concurrency: None,
        batch: None,
        max_wait_ms: None,
        batch_bytes: None,
        ordered: None,
        idempotent: None,
        window_ms: None,
        buffer: None,
        buffer_bytes: None,
        when_full: None,
        dead_letter: None,
    };
}

impl Policy {
    /// The defaults with each patch laid over what stands before it: `defaults:`, then the attribute, then `handlers:`.
    pub fn resolve<'a>(patches: impl IntoIterator<Item = &'a PolicyPatch>) -> Self {
        let mut policy = Self::default();
        for patch in patches {
            policy.apply(patch);
        }
        // A batch that can never fill, or lanes that can never all work, would only ever wait.
        policy.buffer =
            policy.buffer.max(policy.batch.saturating_mul(policy.concurrency).saturating_mul(if policy.batch > 1 { 2 } else { 1 }));
        policy
    }

    fn apply(&mut self, patch: &PolicyPatch) {
        fn set<T: Copy>(to: &mut T, given: Option<T>) {
            if let Some(value) = given {
                *to = value;
            }
        }
        let millis = |ms: Option<u64>| ms.map(Duration::from_millis);
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        set(&mut self.retry.attempts, patch.attempts);
        set(&mut self.retry.backoff, patch.backoff);
        set(&mut self.retry.min, millis(patch.retry_min_ms));
        set(&mut self.retry.max, millis(patch.retry_max_ms));
        set(&mut self.retry.jitter, patch.jitter);
        set(&mut self.timeout, patch.timeout_ms.map(|ms| (ms > 0).then(|| Duration::from_millis(ms))));
        set(&mut self.concurrency, patch.concurrency);
        set(&mut self.batch, patch.batch);
        set(&mut self.max_wait, millis(patch.max_wait_ms));
        set(&mut self.batch_bytes, bytes(patch.batch_bytes));
        set(&mut self.ordered, patch.ordered);
        set(&mut self.buffer, patch.buffer);
        set(&mut self.buffer_bytes, bytes(patch.buffer_bytes));
        set(&mut self.when_full, patch.when_full);
        set(&mut self.dead_letter, patch.dead_letter);
        match patch.idempotent {
            Some(true) if self.idempotent.is_none() => self.idempotent = Some(IDEMPOTENT_WINDOW),
            Some(false) => self.idempotent = None,
            _ => {}
        }
        if self.idempotent.is_some() {
            set(&mut self.idempotent, millis(patch.window_ms).map(Some));
        }
    }

    /// How long after a message was handled its duplicate may still come, of a broker that delivers until it is settled:
    /// every attempt takes as long as it may, every delay is the longest, and the lease of the last one ends unrenewed.
    pub fn horizon(&self) -> Duration {
        // Delays grow up to the longest: more than so many are all that long.
        let delays = 1..self.retry.attempts.min(64);
        let delay = delays.fold(Duration::ZERO, |sum, attempt| sum.saturating_add(self.retry.delay(attempt, 1.0)));
        let later = self.retry.max.saturating_mul(self.retry.attempts.saturating_sub(64));
        let attempts = self.timeout.unwrap_or(LEASE).max(LEASE).saturating_mul(self.retry.attempts);
        delay.saturating_add(later).saturating_add(attempts).saturating_add(LEASE)
    }

    /// What is wrong with it, each with the limit; empty when nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, text: String| {
            if !ok {
                faults.push(text);
            }
        };
        check(self.retry.attempts >= 1, "`attempts` must be at least 1".into());
        check(self.retry.min <= self.retry.max, format!("retry `min` ({:?}) is longer than `max` ({:?})", self.retry.min, self.retry.max));
        check(
            !self.retry.min.is_zero() || self.retry.attempts == 1,
            "retry `min` must be longer than 0: a failing event would spin".into(),
        );
        check((1..=65_536).contains(&self.concurrency), format!("`concurrency` is {}, allowed are 1 to 65536", self.concurrency));
        check((1..=100_000).contains(&self.batch), format!("`batch` is {}, allowed are 1 to 100000", self.batch));
        check(!self.max_wait.is_zero() || self.batch == 1, "`max_wait` must be longer than 0".into());
        check(self.batch_bytes > 0, "`batch_bytes` must be more than 0".into());
        check((1..=1_048_576).contains(&self.buffer), format!("`output_buffer` is {}, allowed are 1 to 1048576", self.buffer));
        check(self.buffer_bytes > 0, "`buffer_bytes` must be more than 0".into());
        check(self.idempotent != Some(Duration::ZERO), "the `idempotent` window must be longer than 0".into());
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_from_min_and_stops_at_max() {
        let retry = Retry { jitter: false, ..Retry::DEFAULT };
        let delays: Vec<u128> = (1..=12).map(|attempt| retry.delay(attempt, 0.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000]);
        assert_eq!(retry.delay(u32::MAX, 0.0), retry.max);
    }

    #[test]
    fn jitter_stays_between_min_and_the_full_delay() {
        for chance in [0.0, 0.5, 0.999_999, f64::NAN, 7.0] {
            for attempt in 1..40 {
                let delay = Retry::DEFAULT.delay(attempt, if chance.is_nan() { 0.0 } else { chance });
                assert!(delay >= Retry::DEFAULT.min && delay <= Retry::DEFAULT.max);
            }
        }
    }

    #[test]
    fn the_horizon_is_the_whole_schedule() {
        let policy = Policy { timeout: Some(Duration::from_secs(60)), ..Policy::default() };
        // 0.1 + 0.2 + 0.4 + 0.8 s of delays, five attempts, one lease.
        assert_eq!(policy.horizon(), Duration::from_millis(1_500 + 5 * 60_000 + 30_000));
        let long = Policy { retry: Retry { attempts: u32::MAX, ..Retry::DEFAULT }, ..policy };
        assert!(long.horizon() > Duration::from_secs(u64::from(u32::MAX)));
    }

    #[test]
    fn later_patches_win_and_the_buffer_fits_the_batches() {
        let attribute = PolicyPatch { batch: Some(50), concurrency: Some(2), attempts: Some(3), ..PolicyPatch::NONE };
        let config =
            PolicyPatch { attempts: Some(7), timeout_ms: Some(0), idempotent: Some(true), window_ms: Some(5), ..PolicyPatch::NONE };
        let policy = Policy::resolve([&attribute, &config]);
        assert_eq!((policy.batch, policy.retry.attempts, policy.timeout, policy.buffer), (50, 7, None, 200));
        assert_eq!(policy.idempotent, Some(Duration::from_millis(5)));
        assert!(policy.faults().is_empty());
        assert_eq!(Policy { concurrency: 0, batch: 0, ..Policy::default() }.faults().len(), 2);
    }
}
