//! "Did you mean …?": the known word nearest to one that is not known.

/// Longer words are not compared: nobody mistypes them, and the table grows with their product.
const WORD_BYTES_MAX: usize = 256;

/// The known word that `given` most likely stands for: at most `max(2, len / 3)` edits away.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > WORD_BYTES_MAX {
        return None;
    }
    let limit = (given.chars().count() / 3).max(2);
    known
        .into_iter()
        .filter(|word| word.len() <= WORD_BYTES_MAX)
        .map(|word| (distance(given, word), word))
        .filter(|(distance, word)| *distance <= limit && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters must be changed, added or left out: the distance of Levenshtein, case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("URL", "url", 0), ("ключ", "ключи", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn only_a_near_word_is_offered() {
        let known = ["url", "store", "output_buffer", "group", "timeout"];
        for (given, expected) in [
            ("ulr", Some("url")),
            ("outputBuffer", Some("output_buffer")),
            ("output-buffer", Some("output_buffer")),
            ("time_out", Some("timeout")),
            ("broker", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
        assert_eq!(nearest(&"u".repeat(1_000_000), known), None);
    }
}
