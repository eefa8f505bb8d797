//! Durations as they are written in attributes, files and variables: `<int>(ms|s|m|h|d)`.

/// The longest duration taken, in days: far past any use, and far below where a clock would overflow.
const DAYS_MAX: u64 = 365;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Milliseconds of a text such as `250ms`, `30s` or `24h`; `None` for anything else, and past 365 days.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => DAY_MS,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|ms| *ms <= DAYS_MAX * DAY_MS)
}

/// The shortest way to write so many milliseconds.
pub(crate) fn show_ms(ms: u64) -> String {
    [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        .into_iter()
        .find(|(_, factor)| ms > 0 && ms.is_multiple_of(*factor))
        .map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written_back() {
        for (text, ms) in
            [("0ms", 0), ("250ms", 250), ("1s", 1_000), ("90s", 90_000), ("5m", 300_000), ("24h", 86_400_000), ("365d", 365 * DAY_MS)]
        {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
            assert_eq!(parse_ms(&show_ms(ms)), Some(ms), "{text}");
        }
        assert_eq!((show_ms(90_000), show_ms(86_400_000)), ("90s".into(), "1d".into()));
    }

    #[test]
    fn nothing_else_is_a_duration() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            " 5s",
            "5S",
            "-5s",
            "+5s",
            "1.5s",
            "5sec",
            "366d",
            "18446744073709551615d",
            "99999999999999999999s",
            "٣s",
            "5µs",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
