//! Times as [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339#section-5.6) text, to the millisecond.
//!
//! Written here, in two functions, because the crates that know it either take only `Z` or bring calendars and time zones along.

/// Milliseconds at the end of the year 9999, the last that RFC 3339 can write.
pub(super) const MS_MAX: u64 = 253_402_300_799_999;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// `2026-11-22T13:40:00.123Z`; `None` past the year 9999.
pub(super) fn format(ms: u64) -> Option<String> {
    let seconds = i64::try_from(ms / 1_000).ok().filter(|_| ms <= MS_MAX)?;
    let (year, month, day) = civil(seconds / DAY_SECONDS);
    let of_day = seconds % DAY_SECONDS;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000))
}

/// Milliseconds since 1970 of a time in any zone, with any number of digits behind the second; what is finer is cut off.
///
/// `None` for what is no time, and for times before 1970, which no message can hold.
pub(super) fn parse(text: &str) -> Option<u64> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    literal(&mut rest, b"-")?;
    let month = digits(&mut rest, 2).filter(|month| (1..=12).contains(month))?;
    literal(&mut rest, b"-")?;
    let day = digits(&mut rest, 2).filter(|day| (1..=days_of(year, month)).contains(day))?;
    literal(&mut rest, b"Tt ")?;
    let hour = digits(&mut rest, 2).filter(|hour| *hour < 24)?;
    literal(&mut rest, b":")?;
    let minute = digits(&mut rest, 2).filter(|minute| *minute < 60)?;
    literal(&mut rest, b":")?;
    // A leap second counts as the first of the next minute, as Unix time has it.
    let second = digits(&mut rest, 2).filter(|second| *second <= 60)?;
    let fraction = fraction(&mut rest)?;
    let offset = offset(&mut rest)?;
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3_600 + minute * 60 + second - offset * 60;
    let ms = u64::try_from(seconds).ok()? * 1_000 + fraction;
    (rest.is_empty() && ms <= MS_MAX).then_some(ms)
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (number, after) = rest.split_at_checked(count)?;
    *rest = after;
    number.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn literal(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    allowed.contains(first).then_some(*first)
}

/// The milliseconds of `.123456`.
fn fraction(rest: &mut &[u8]) -> Option<u64> {
    let Some(after) = rest.strip_prefix(b".") else { return Some(0) };
    let count = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, after) = after.split_at(count);
    *rest = after;
    (1..=32).contains(&count).then(|| (0..3).fold(0, |ms, at| ms * 10 + number.get(at).map_or(0, |digit| u64::from(digit - b'0'))))
}

/// Minutes east of Greenwich.
fn offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match literal(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = digits(rest, 2).filter(|hours| *hours < 24)?;
    literal(rest, b":")?;
    let minutes = digits(rest, 2).filter(|minutes| *minutes < 60)?;
    Some(sign * (hours * 60 + minutes))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date: `days_from_civil` of <https://howardhinnant.github.io/date_algorithms.html>.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970, none before it: `civil_from_days` of the same page.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_read_and_written() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_354_800_123, "2026-11-22T13:40:00.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (MS_MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(ms).as_deref(), Some(text));
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        assert_eq!((format(MS_MAX + 1), format(u64::MAX)), (None, None));
    }

    #[test]
    fn zones_fractions_and_leap_seconds_are_understood() {
        for (text, same) in [
            ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520Z"),
            ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57.000Z"),
            ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00.000Z"),
            ("1970-01-01T00:20:00.87+00:20", "1970-01-01T00:00:00.870Z"),
            ("2026-11-22t13:00:00.123999999z", "2026-11-22T13:00:00.123Z"),
            ("2026-11-22 13:00:00-00:00", "2026-11-22T13:00:00.000Z"),
        ] {
            assert_eq!(parse(text).and_then(format).as_deref(), Some(same), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_time() {
        for text in [
            "",
            "2026",
            "2026-11-22",
            "2026-11-22T13:00:00",
            "2026-11-22T13:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T13:60:00Z",
            "2026-11-22T13:00:61Z",
            "2026-11-22T13:00:00.Z",
            "2026-11-22T13:00:00+0100",
            "2026-11-22T13:00:00+24:00",
            "2026-11-22T13:00:00Z ",
            " 2026-11-22T13:00:00Z",
            "2026-11-22T13:00:00ZZ",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "12026-11-22T13:00:00Z",
            "２026-11-22T13:00:00Z",
            "-026-11-22T13:00:00Z",
            "2026-11-22T13:00:00,5Z",
            "0000-01-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_comes_back() {
        for day in 0..(365 * 800) {
            let ms = day * 86_400_000 + 43_200_001;
            assert_eq!(format(ms).and_then(|text| parse(&text)), Some(ms));
        }
    }
}
