//! Attribute values for brokers whose headers are lines of printable ASCII.

use std::borrow::Cow;

/// A value for a header line: everything but printable ASCII, space, `"` and `%` are percent-encoded.
///
/// As the [HTTP binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#3132-http-header-values)
/// of CloudEvents has it, and by reference the one for NATS. A line break in a key cannot become a header of its own.
///
/// ```
/// use abe_events::wire::{decode_header_value, encode_header_value};
///
/// assert_eq!(encode_header_value("Größe 5%"), "Gr%C3%B6%C3%9Fe%205%25");
/// assert_eq!(decode_header_value("Gr%C3%B6%C3%9Fe%205%25").unwrap(), "Größe 5%");
/// ```
pub fn encode_header_value(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'%';
    if text.bytes().all(plain) {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded.into()
}

/// The value of a header line; `None` when what is encoded is no UTF-8. A `%` that encodes nothing stays.
pub fn decode_header_value(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_breaks_a_line_and_all_come_back() {
        for text in ["", "plain", "a b", "100%", "%41", "\r\nNats-Rollup: all", "\0", "Größe", "🔑\"", "%%%", "é%"] {
            let encoded = encode_header_value(text);
            assert!(encoded.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{encoded}");
            assert_eq!(decode_header_value(&encoded).unwrap(), text);
        }
        for (given, expected) in [("%", Some("%")), ("%4", Some("%4")), ("%zz", Some("%zz")), ("%ff", None), ("%C3%B6é", Some("öé"))] {
            assert_eq!(decode_header_value(given).as_deref(), expected, "{given}");
        }
    }
}
