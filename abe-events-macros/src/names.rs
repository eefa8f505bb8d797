//! Rules for names, the same at compile time as at run time, and the nearest known name.

/// The longest name, in bytes; the facade's `NAME_BYTES_MAX`.
const NAME_BYTES_MAX: usize = 200;

/// The longest segment, in bytes; the facade's `SEGMENT_BYTES_MAX`.
const SEGMENT_BYTES_MAX: usize = 64;

/// What is wrong with a name made of dotted segments.
pub(crate) fn fault_of(what: &str, text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(format!("{what} must not be empty"));
    }
    if text.len() > NAME_BYTES_MAX {
        return Some(format!("{what} is {} bytes long, at most {NAME_BYTES_MAX} are allowed", text.len()));
    }
    if text.starts_with(['_', '$']) {
        return Some(format!("{what} must not begin with `_` or `$`, which brokers keep for themselves"));
    }
    for segment in text.split('.') {
        if segment.is_empty() {
            return Some(format!("{what} has an empty segment: a dot at an end, or two in a row"));
        }
        if segment.len() > SEGMENT_BYTES_MAX {
            return Some(format!("{what} has a segment of {} bytes, at most {SEGMENT_BYTES_MAX} are allowed", segment.len()));
        }
        if let Some(bad) = segment.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            return Some(format!("{what} contains {bad:?}; allowed are ASCII letters, digits, `_`, `-` and `.`"));
        }
    }
    None
}

/// What is wrong with a topic that may hold wildcards.
pub(crate) fn fault_of_pattern(text: &str) -> Option<String> {
    let segments: Vec<&str> = text.split('.').collect();
    for (at, segment) in segments.iter().enumerate() {
        if *segment == ">" && at + 1 < segments.len() {
            return Some("`>` stands for the rest of a topic and must be its last segment".to_owned());
        }
        if segment.len() > 1 && segment.contains(['*', '>']) {
            return Some(format!("`*` and `>` are whole segments, and `{segment}` is neither"));
        }
    }
    let plain: Vec<&str> = segments.iter().map(|segment| if matches!(*segment, "*" | ">") { "w" } else { segment }).collect();
    fault_of("topic", &plain.join("."))
}

/// The known name that a misspelt one was most likely meant to be.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, name) = known.iter().map(|name| (distance(given, name), *name)).min()?;
    (distance <= 2.max(given.len() / 3)).then_some(name)
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_meant() {
        let known = ["filter", "topic", "timeout", "batch"];
        assert_eq!(nearest("fliter", &known), Some("filter"));
        assert_eq!(nearest("topik", &known), Some("topic"));
        assert_eq!(nearest("concurrent", &known), None);
    }

    #[test]
    fn names_follow_the_rules_of_the_facade() {
        assert_eq!(fault_of("topic", "order.created"), None);
        for bad in ["", ".a", "a..b", "$JS.API", "a b", "_INBOX.x", "order.*", &"x".repeat(65), &"x.".repeat(150)] {
            assert!(fault_of("topic", bad).is_some(), "{bad}");
        }
        for good in [">", "*", "order.*.created", "order.>"] {
            assert_eq!(fault_of_pattern(good), None, "{good}");
        }
        for bad in ["order.>.x", "order.a*", ""] {
            assert!(fault_of_pattern(bad).is_some(), "{bad}");
        }
    }
}
