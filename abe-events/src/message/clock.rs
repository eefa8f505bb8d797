//! The time of day: exact, or as cheap as a message needs it.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    // Not `as_millis`, which divides 128 bits.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().saturating_mul(1000).saturating_add(u64::from(since.subsec_millis())))
}

/// The time at the system's last timer tick, which is 1 to 10 ms ago at most: it is kept in memory, where the exact time asks
/// the processor's counter, and that costs a third of what publishing does.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn tick_ms() -> u64 {
    use nix::time::{ClockId, clock_gettime};

    match clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
        Ok(time) => {
            let [secs, nanos] = [time.tv_sec(), time.tv_nsec()].map(|part| u64::try_from(part).unwrap_or_default());
            secs.saturating_mul(1000).saturating_add(nanos / 1_000_000)
        }
        Err(_) => now_ms(),
    }
}

/// The exact time, where the system keeps no other.
#[cfg(not(target_os = "linux"))]
#[inline]
pub(crate) fn tick_ms() -> u64 {
    now_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_is_not_ahead_and_not_far_behind() {
        for _ in 0..1_000 {
            let (before, tick, after) = (now_ms(), tick_ms(), now_ms());
            assert!(tick <= after, "{tick} is ahead of {after}");
            // A hundredth of a second, and what the system may set its clock by.
            assert!(tick + 100 >= before, "{tick} is far behind {before}");
        }
    }
}
